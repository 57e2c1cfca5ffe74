"""MLflow's entities as its API writes them: empty repeated fields and what is not set are left out."""

from collections.abc import Mapping
from typing import Any

import orjson

from runtide_queries.commands import RunState
from runtide_queries.experiments import Experiment
from runtide_queries.logged_models import LoggedModelDetail, ModelMetric
from runtide_queries.metric_points import CurvePoints
from runtide_queries.runs import Input
from runtide_queries.search import LatestRun

RUN_NAME = "mlflow.runName"
_STATUSES = {"LOST": "RUNNING"}
"""MLflow knows no lost runs, and its clients refuse what they do not know."""
_MODEL_STATUSES = {
    "PENDING": "LOGGED_MODEL_PENDING",
    "READY": "LOGGED_MODEL_READY",
    "FAILED": "LOGGED_MODEL_UPLOAD_FAILED",
}
_LARGEST = 1.7976931348623157e308


def tags_of(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags or params as a list of keys and values."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are set: neither None nor an empty list."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def experiment(found: Experiment, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return an experiment."""
    return given(
        experiment_id=found.experiment_id,
        name=found.name,
        artifact_location=location_of(found.experiment_id, found.artifact_location),
        lifecycle_stage=found.lifecycle_stage,
        last_update_time=found.updated_at,
        creation_time=found.created_at,
        tags=tags_of(tags),
    )


def location_of(experiment_id: str, stated: str) -> str:
    """Return where an experiment's artifacts lie: what this gateway keeps, unless something else was stated."""
    return stated or f"mlflow-artifacts:/{experiment_id}"


def run_info(state: RunState) -> dict[str, Any]:
    """Return what a run is, without its data."""
    return given(
        run_uuid=state.run_id,
        run_name=state.name,
        experiment_id=state.experiment_id,
        user_id=state.user_id,
        status=_STATUSES.get(state.status, state.status),
        start_time=state.start_time or 0,
        end_time=state.end_time,
        artifact_uri=state.artifact_uri,
        lifecycle_stage="active" if state.lifecycle_stage == "active" else "deleted",
        run_id=state.run_id,
    )


def run(found: LatestRun) -> orjson.Fragment:
    """Return a run with its data, which is JSON already: a page has thousands of values."""
    used = given(
        dataset_inputs=[_input(one) for one in found.inputs],
        model_inputs=[{"model_id": one.model_id} for one in found.models if one.role == "input"],
    )
    outputs = [{"model_id": one.model_id, "step": one.step or 0} for one in found.models if one.role == "output"]
    told = {
        "info": run_info(found.state),
        "data": orjson.Fragment(_data(found)),
        "inputs": used,
        "outputs": given(model_outputs=outputs),
    }
    return orjson.Fragment(orjson.dumps(told))


def _data(found: LatestRun) -> str:
    """Return the data of a run as JSON."""
    name = found.state.name
    named = orjson.dumps({"key": RUN_NAME, "value": name}).decode() if name else ""
    lists = {"metrics": found.metrics, "params": found.params, "tags": ",".join(filter(None, (found.tags, named)))}
    return "{" + ",".join(f'"{kind}":[{values}]' for kind, values in lists.items() if values) + "}"


def metric(key: str, value: float, timestamp: int, step: int, run_id: str | None = None) -> dict[str, Any]:
    """Return a metric's value; ``run_id``: where points of several runs stand together.

    Infinities are the largest doubles, as MLflow's SQL store has them; NaN is the text "NaN".
    """
    return given(key=key, value=_shown(value), timestamp=timestamp, step=step, run_id=run_id)


def points(key: str, found: CurvePoints) -> orjson.Fragment:
    """Return points of a metric, which are JSON already: a curve has thousands."""
    rows = [
        {"key": key, "value": value, "timestamp": timestamp, "step": step}
        for value, timestamp, step in zip(map(_shown, found.values), found.timestamps, found.steps, strict=True)
    ]
    if found.run_ids is not None:
        for row, run_id in zip(rows, found.run_ids, strict=True):
            row["run_id"] = run_id
    return orjson.Fragment(orjson.dumps(rows))


def _shown(value: float) -> float | str:
    return max(-_LARGEST, min(_LARGEST, value)) if value == value else "NaN"  # NaN is not itself


def logged_model(found: LoggedModelDetail) -> dict[str, Any]:
    """Return a logged model with its tags, params and metrics."""
    info = found.info
    about = given(
        model_id=info.model_id,
        experiment_id=info.experiment_id,
        name=info.name,
        creation_timestamp_ms=info.created_at,
        last_updated_timestamp_ms=info.updated_at,
        artifact_uri=info.uri,
        status=_MODEL_STATUSES.get(info.status, "LOGGED_MODEL_STATUS_UNSPECIFIED"),
        model_type=info.model_type,
        source_run_id=info.source_run_id,
        status_message=info.status_message or None,
        tags=tags_of(found.tags),
    )
    data = given(params=tags_of(found.params), metrics=[_model_metric(one, info.model_id) for one in found.metrics])
    return {"info": about, "data": data}


def _model_metric(found: ModelMetric, model_id: str) -> dict[str, Any]:
    return metric(found.key, found.value, found.timestamp, found.step, found.run_id) | given(
        model_id=model_id, dataset_name=found.dataset_name or None, dataset_digest=found.dataset_digest or None
    )


def _input(found: Input) -> dict[str, Any]:
    dataset = given(
        name=found.name,
        digest=found.digest,
        source_type=found.source_type,
        source=found.source,
        schema=found.schema or None,
        profile=found.profile or None,
    )
    return given(tags=tags_of(found.tags), dataset=dataset)
