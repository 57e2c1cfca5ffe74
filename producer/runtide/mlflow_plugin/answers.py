"""The gateway's answers as MLflow's entities."""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run, RunInfo

from runtide.mlflow_plugin.memory import assembled


def run_of(told: Mapping[str, Any], inputs: list[Mapping[str, Any]] | None = None) -> Run:
    """Return a run of the answer to a search, or with its inputs that of the answer to a question for one run."""
    info = told["info"]
    metrics = [_latest(summary, info["run_id"]) for summary in told["metrics"].values()]
    return assembled(_info(info), metrics, told["params"], told["tags"], [_input(found) for found in inputs or ()])


def point_of(told: Mapping[str, Any], key: str, run_id: str) -> Metric:
    """Return a point of a metric's history."""
    return Metric(key, float(told["value"]), told["timestamp"], told["step"], run_id=run_id)


_STATUSES = {"LOST": "RUNNING"}
"""MLflow knows no lost runs, and refuses what it does not know."""


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
