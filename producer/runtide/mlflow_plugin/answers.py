"""The gateway's answers as MLflow's entities."""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, LoggedModelStatus, Metric, Run, RunInfo

from runtide.mlflow_plugin.memory import Link, assembled


def run_of(told: Mapping[str, Any]) -> Run:
    """Return the run of the answer to a question for one."""
    run = told["run"]
    return _run(run, [_input(found) for found in told["inputs"]], links_of(told))


def found_run_of(told: Mapping[str, Any]) -> Run:
    """Return a run of the answer to a search, without its datasets."""
    return _run(told, [], links_of(told))


def links_of(told: Mapping[str, Any]) -> dict[Link, int]:
    """Return the logged models that a run took and made, with the step."""
    return {(one["role"], one["model_id"]): one["step"] or 0 for one in told["models"]}


def point_of(told: Mapping[str, Any], key: str, run_id: str) -> Metric:
    """Return a point of a metric's history."""
    return Metric(key, float(told["value"]), told["timestamp"], told["step"], run_id=run_id)


def logged_model_of(told: Mapping[str, Any]) -> LoggedModel:
    """Return a logged model."""
    info = told["info"]
    return LoggedModel(
        experiment_id=info["experiment_id"],
        model_id=info["model_id"],
        name=info["name"],
        artifact_location=info["uri"],
        creation_timestamp=info["created_at"],
        last_updated_timestamp=info["updated_at"],
        model_type=info["model_type"] or None,
        source_run_id=info["source_run_id"] or None,
        status=LoggedModelStatus(info["status"]),
        status_message=info["status_message"] or None,
        tags=dict(told["tags"]),
        params=dict(told["params"]),
        metrics=[_model_metric(one, info["model_id"]) for one in told["metrics"]],
    )


_STATUSES = {"LOST": "RUNNING"}
"""MLflow knows no lost runs, and refuses what it does not know."""


def _run(told: Mapping[str, Any], datasets: list[DatasetInput], models: Mapping[Link, int]) -> Run:
    info = told["info"]
    metrics = [_latest(summary, info["run_id"]) for summary in told["metrics"].values()]
    return assembled(_info(info), metrics, told["params"], told["tags"], datasets, models)


def _info(told: Mapping[str, Any]) -> RunInfo:
    """What is not known yet, because the run's first event has not come, is empty."""
    return RunInfo(
        run_id=told["run_id"],
        run_name=told["name"] or "",
        experiment_id=told["experiment_id"] or "",
        user_id=told["user_id"] or "",
        status=_STATUSES.get(told["status"], told["status"] or "RUNNING"),
        start_time=told["start_time"] or 0,
        end_time=told["end_time"],
        lifecycle_stage="active" if told["lifecycle_stage"] == "active" else "deleted",  # MLflow knows no purged ones
        artifact_uri=told["artifact_uri"] or "",
    )


def _latest(summary: Mapping[str, Any], run_id: str) -> Metric:
    value = float(summary["last_value"])  # NaN and infinities come as text
    return Metric(summary["key"], value, summary["last_timestamp"], summary["last_step"], run_id=run_id)


def _model_metric(told: Mapping[str, Any], model_id: str) -> Metric:
    return Metric(
        told["key"],
        float(told["value"]),
        told["timestamp"],
        told["step"],
        model_id=model_id,
        dataset_name=told["dataset_name"] or None,
        dataset_digest=told["dataset_digest"] or None,
        run_id=told["run_id"],
    )


def _input(told: Mapping[str, Any]) -> DatasetInput:
    dataset = Dataset(
        name=told["name"],
        digest=told["digest"],
        source_type=told["source_type"],
        source=told["source"],
        schema=told["schema"] or None,
        profile=told["profile"] or None,
    )
    return DatasetInput(dataset, [InputTag(key, value) for key, value in told["tags"].items()])
