"""What MLflow's file store and its database have in common: what a run's fields and tags mean."""

from collections.abc import Iterator, Mapping
from typing import Any

from runtide.importing.records import Attributes, Input, LeftOut, Record
from runtide.tracking.datasets import dataset_input
from runtide_schemas.errors import InvalidRequest

PARENT_TAG = "mlflow.parentRunId"
_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
"""Numbers of ``RunStatus`` in ``mlflow/protos/service.proto``; the file store writes them."""
_SOURCE_TYPES = ("NOTEBOOK", "JOB", "PROJECT", "LOCAL", "UNKNOWN")


def run_attributes(fields: Mapping[str, Any], tags: Mapping[str, str], experiment: str) -> Attributes:
    """Return the attributes of a run.

    Args:
        fields: of ``meta.yaml`` or of the row in ``runs``.
        tags: of the run; today's MLflow keeps there what older ones had in fields.
        experiment: name of the run's experiment.

    Raises:
        ValueError: a time is no number.
    """
    source_type = tags.get("mlflow.source.type") or str(fields.get("source_type") or "")
    end = fields.get("end_time")
    return Attributes(
        name=str(fields.get("run_name") or fields.get("name") or tags.get("mlflow.runName") or ""),
        experiment=experiment,
        user=str(fields.get("user_id") or tags.get("mlflow.user") or ""),
        start_time=max(0, int(fields.get("start_time") or 0)),
        end_time=None if end is None else max(0, int(end)),
        status=_status(fields.get("status")),
        parent_run_id=tags.get(PARENT_TAG, ""),
        source_name=tags.get("mlflow.source.name") or str(fields.get("source_name") or ""),
        source_type=source_type if source_type in _SOURCE_TYPES else "UNKNOWN",
        source_version=tags.get("mlflow.source.git.commit") or str(fields.get("source_version") or ""),
        deleted=fields.get("lifecycle_stage") == "deleted",
    )


def run_input(fields: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Record]:
    """Yield a dataset that a run used."""
    given = {name: str(fields.get(name) or "") for name in ("digest", "source", "source_type", "schema", "profile")}
    name = str(fields.get("name") or "")
    try:
        yield Input(dataset_input(name, None, given, "", tags))
    except InvalidRequest as error:
        yield LeftOut(f"dataset {name[:60]!r}", str(error))


def _status(value: Any) -> str:
    if isinstance(value, int):
        return _STATUSES.get(value, "RUNNING")
    return value if value in _STATUSES.values() else "RUNNING"
