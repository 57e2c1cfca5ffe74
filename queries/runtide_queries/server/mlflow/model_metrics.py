"""Metrics that tell of a logged model: points of a run that name one, and perhaps the dataset that it was measured on."""

from collections.abc import Sequence

from runtide_queries.commands import Point
from runtide_queries.server.mlflow.calls import Call, Fields
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.logged_models import ModelMetricsLogged, ModelPoint
from runtide_schemas.limits import check_text

_LONGEST = {"model_id": 255, "dataset_name": 500, "dataset_digest": 36}


def model_points(metrics: Sequence[tuple[Fields, Point]]) -> tuple[ModelPoint, ...]:
    """Return those of some checked points that tell of a model.

    Raises:
        InvalidRequest: the name of a model or of a dataset is of another type, or too long; half of a dataset's is missing.
    """
    found = []
    for fields, point in metrics:
        if "model_id" not in fields:
            continue
        named = {name: check_text(fields.text(name), name, longest) for name, longest in _LONGEST.items()}
        if bool(named["dataset_name"]) != bool(named["dataset_digest"]):
            raise InvalidRequest("Both dataset_name and dataset_digest must be provided if one is provided")
        if named["model_id"]:
            found.append(
                ModelPoint(
                    model_id=named["model_id"],
                    key=point.key,
                    step=point.step,
                    timestamp=point.timestamp,
                    value=point.value,
                    dataset_name=named["dataset_name"],
                    dataset_digest=named["dataset_digest"],
                )
            )
    return tuple(found)


async def log_model_points(call: Call, run_id: str, points: tuple[ModelPoint, ...]) -> None:
    """Publish points that tell of models, beside the run's own; nothing where there are none."""
    if points:
        await call.stores.commands.state(ModelMetricsLogged(run_id=run_id, model_points=points), actor=call.actor)
