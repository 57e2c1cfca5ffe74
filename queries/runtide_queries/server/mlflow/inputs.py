"""Datasets and models that a run used."""

from typing import Any

from runtide_queries.server.mlflow.calls import Call, Fields, call_routes
from runtide_queries.server.mlflow.logged_models import link_models
from runtide_queries.server.mlflow.runs import active
from runtide_queries.server.mlflow.validation import check_run_id
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.logged_models import ModelLink
from runtide_schemas.events.runs import DatasetInput, InputsLogged
from runtide_schemas.limits import check_text

_LIMITS = {"name": 500, "digest": 36, "source_type": 500, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
_TAG_KEY, _TAG_VALUE = 255, 500


async def log_inputs(call: Call) -> Any:
    """Log that a run used datasets and models; the same one again changes nothing."""
    run_id = check_run_id(call.run_id())
    datasets = tuple(_dataset(one) for one in call.objects("datasets"))
    models = [ModelLink(model_id=one.text("model_id", required=True), role="input") for one in call.objects("models")]
    await active(call, run_id)
    if datasets:
        await call.stores.commands.state(InputsLogged(run_id=run_id, datasets=datasets), actor=call.actor)
    await link_models(call, run_id, models)
    return {}


def _dataset(given: Fields) -> DatasetInput:
    tags = given.pairs("tags")
    for key, value in tags.items():
        _check(key, "InputTag key", _TAG_KEY)
        _check(value, "InputTag value", _TAG_VALUE)
    dataset = given.object("dataset", required=True)
    required = ("name", "digest", "source_type", "source")
    values = {name: dataset.text(name, required=name in required) for name in _LIMITS}
    for name, value in values.items():
        _check(value, f"Dataset {name}", _LIMITS[name])
    return DatasetInput(**values, tags=tags)


def _check(value: str, what: str, longest: int) -> None:
    if len(value) > longest:
        raise InvalidRequest(f"{what} exceeds the maximum length of {longest}")
    check_text(value, what, longest)


ROUTES = (
    *call_routes("POST", "runs/log-inputs", log_inputs, Policy.LOG, "Log the datasets and models that a run used"),
)
