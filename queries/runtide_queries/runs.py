"""Runs: one with everything known about it. Searching is in ``search/``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtide_queries.models import ModelVersion
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.envelope import format_time
from runtide_schemas.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A row of ``runs``; times in Unix milliseconds.

    ``started`` is False while events of the run are known but its RunStarted is not yet; ``experiment_id`` is empty
    until the registrar has answered. ``status`` is LOST from when its writers fell silent until one is heard again;
    ``silent_since`` is when the last of them was last heard before its latest loss, null without one. A run of which
    ``lifecycle_stage`` is deleted is hidden from lists and can be restored; so is one whose ``experiment_stage`` is deleted, with
    its experiment. ``deleted_by`` is empty where nobody said.
    """

    run_id: str
    name: str | None
    experiment_id: str
    experiment_name: str | None
    user_id: str | None
    source_name: str | None
    source_type: str | None
    source_version: str | None
    parent_run_id: str | None
    status: str | None
    start_time: int | None
    end_time: int | None
    end_reason: str | None
    artifact_uri: str | None
    lifecycle_stage: str
    started: bool
    silent_since: int | None = None
    deleted_at: int | None = None
    deleted_by: str | None = ""
    experiment_stage: str | None = None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """What one curve comes to. Last is the greatest (step, timestamp, value), first the least; minimum and maximum
    leave NaN out and are null when there is nothing else."""

    key: str
    last_value: float
    last_step: int
    last_timestamp: int
    first_value: float
    first_step: int
    first_timestamp: int
    min_value: float | None
    max_value: float | None
    point_count: int
    nan_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run with its params, tags and metric summaries by key."""

    info: RunInfo
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, MetricSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamConflict:
    """A second, different value of a param: the first one won."""

    key: str
    value: str
    writer_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A dataset that the run used."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A stored file; ``size`` in bytes."""

    path: str
    uri: str
    size: int
    sha256: str
    content_type: str
    stored_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A model of the run; ``size`` in bytes, 0 where nobody said. ``status``: PENDING (its files are still to come), READY, FAILED."""

    model_id: str
    name: str
    artifact_path: str
    uri: str
    digest: str
    size: int
    flavors: tuple[str, ...]
    signature: str
    created_at: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A process or rank that wrote to the run."""

    writer_id: str
    host: str | None
    pid: int | None
    rank: int | None
    local_rank: int | None
    world_size: int | None
    client: str | None
    opened_at: int | None
    closed_at: int | None
    close_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReceipt:
    """What is left of a purged run: who gave it up when and why, what it had then, and what came of it since.

    ``points_seen`` counts those that came after the purge too, ``late_events`` other events after it; times in Unix
    milliseconds. ``model_folders`` are those that its logged models had outside of the run's own; ``files_removed`` counts
    what lay in them, too.
    """

    deleted_at: int | None
    deleted_by: str
    purged_at: int
    purged_by: str
    reason: str
    points: int
    metrics: int
    params: int
    tags: int
    inputs: int
    artifacts: int
    artifact_bytes: int
    models: int
    checksum: str
    points_seen: int
    late_events: int
    files_removed_at: int | None
    files_removed: int
    bytes_removed: int
    model_folders: int
    model_folders_removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunModel:
    """A logged model that a run took (``input``) or made (``output``, at ``step``)."""

    model_id: str
    role: str
    step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """Everything that the state store knows of a run, all of one moment.

    ``deletion`` says in a sentence since when, by whom and until when the run is hidden from lists; it is empty where it is not.
    ``logged_models`` are those whose events are the run's, ``models`` those that it says it took or made.
    """

    run: Run
    deletion: str
    param_conflicts: tuple[ParamConflict, ...]
    inputs: tuple[Input, ...]
    artifacts: tuple[Artifact, ...]
    logged_models: tuple[LoggedModel, ...]
    models: tuple[RunModel, ...]
    model_versions: tuple[ModelVersion, ...]
    writers: tuple[Writer, ...]
    receipt: RunReceipt | None


def unknown_run(run_id: str) -> NotFound:
    """Return the error for a run that no event has been seen of."""
    return NotFound(
        f"Run with id={run_id} not found: no event of it has arrived. Check the id; when the run is an offline one, "
        "ship it with `runtide sync`; when it has just started, look at the lag at /status"
    )


def said_of_deletion(info: RunInfo) -> str:
    """Return why lists do not have a run, and how they will have it again; empty where they have it."""
    if info.lifecycle_stage == "deleted":
        at = f" at {format_time(info.deleted_at)}" if info.deleted_at is not None else ""
        who = f" by {info.deleted_by}" if info.deleted_by else ""
        return f"The run was deleted{at}{who}; restore it with `runtide delete --undo {info.run_id}`"
    if info.lifecycle_stage == "active" and info.experiment_stage == "deleted":
        return f"The run is hidden with its experiment {info.experiment_id}, which is deleted; MLflow's client can restore that"
    return ""


async def get_run(postgres: Postgres, run_id: str) -> RunDetail:
    """Return a run, deleted ones too; of a purged one there is its receipt.

    Raises:
        NotFound: no event of the run has arrived.
    """
    statements = load("runs")
    async with postgres.snapshot() as snapshot:
        row = await snapshot.row(statements["get_run"], run_id=run_id)
        if row is None:
            raise unknown_run(run_id)

        async def rows(name: str) -> list[Any]:
            return await snapshot.rows(statements[name], run_id=run_id)

        run = Run(
            info=RunInfo(**row),
            params=dict(await rows("get_params")),
            tags=dict(await rows("get_tags")),
            metrics={found["key"]: MetricSummary(**found) for found in await rows("get_metric_summaries")},
        )
        versions = await snapshot.rows(load("models")["list_versions_of_run"], run_id=run_id)
        receipt = await snapshot.row(statements["get_receipt"], run_id=run_id)
        return RunDetail(
            receipt=None if receipt is None else RunReceipt(**receipt),
            run=run,
            deletion=said_of_deletion(run.info),
            param_conflicts=tuple(ParamConflict(**found) for found in await rows("get_param_conflicts")),
            inputs=tuple(_input(found) for found in await rows("get_inputs")),
            artifacts=tuple(Artifact(**found) for found in await rows("get_artifacts")),
            logged_models=tuple(_logged_model(found) for found in await rows("get_logged_models") if not receipt),
            models=tuple(RunModel(**found) for found in await rows("get_run_models")),
            model_versions=tuple(ModelVersion.of(found) for found in versions),
            writers=tuple(Writer(**found) for found in await rows("get_writers")),
        )


def _input(row: Any) -> Input:
    return Input(**{**row, "tags": json.loads(row["tags"] or "{}")})


def _logged_model(row: Any) -> LoggedModel:
    return LoggedModel(**{**row, "flavors": tuple(row["flavors"] or ())})
