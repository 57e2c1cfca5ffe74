"""Folds of runtide.runs and runtide.metrics: one plain function per event type.

A run's row appears with its first event, of whatever type, because events of different topics come in any order. All
events of runtide.runs about one run stand in one partition, so their order is the log's.
"""

import json
from typing import Any

from runtide_consumers import losses
from runtide_consumers.postgres.rows import Workspace
from runtide_consumers.projection import Event
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ParamsLogged,
    RunArtifactsRemoved,
    RunDeleted,
    RunEnded,
    RunLost,
    RunPurged,
    RunRecovered,
    RunRestored,
    RunStarted,
    RunUpdated,
    TagsDeleted,
    TagsSet,
    WriterClosed,
    WriterOpened,
)


def run_started(work: Workspace, event: Event) -> None:
    """The first one says what the run is; its status may be known already, from a rank that was quicker."""
    body: RunStarted = event.body
    for key, value in body.tags.items():
        work.merge("tags", (body.run_id, key), value)
    if work.row("runs", body.run_id)["started"]:
        return
    work.change(
        "runs",
        body.run_id,
        name=body.name,
        experiment_id=body.experiment_id,
        experiment_request=body.experiment_request,
        experiment_name=body.experiment_name,
        user_id=body.user,
        source_name=body.source_name,
        source_type=body.source_type,
        source_version=body.source_version,
        parent_run_id=body.parent_run_id,
        start_time=body.start_time,
        artifact_uri=body.artifact_uri,
        started=True,
    )


def run_updated(work: Workspace, event: Event) -> None:
    """A null field is unchanged; a run that runs again has no end (MLflow's runs/update)."""
    body: RunUpdated = event.body
    values: dict[str, Any] = {}
    if body.status in losses.UNFINISHED:
        values |= {"end_time": None, "end_reason": ""}
    given = {"name": body.name, "end_time": body.end_time}
    values |= {column: value for column, value in given.items() if value is not None}
    if body.status is not None:
        values |= losses.stated(work.row("runs", body.run_id), body.status)
    work.change("runs", body.run_id, **values)


def run_ended(work: Workspace, event: Event) -> None:
    """The latest end wins, by its own time: the spool of an attempt that died may come after its successor's end."""
    body: RunEnded = event.body
    run = work.row("runs", body.run_id)
    if run["end_time"] is not None and run["end_time"] > body.end_time:
        return
    status = losses.stated(run, body.status)
    work.change("runs", body.run_id, end_time=body.end_time, end_reason=body.reason, **status)


def run_lost(work: Workspace, event: Event) -> None:
    """Its writers fell silent, says the watcher."""
    body: RunLost = event.body
    work.change("runs", body.run_id, **losses.lost(work.row("runs", body.run_id), body.episode, body.silent_since))


def run_recovered(work: Workspace, event: Event) -> None:
    """One of them was heard again."""
    body: RunRecovered = event.body
    work.change("runs", body.run_id, **losses.recovered(work.row("runs", body.run_id), body.episode))


def run_deleted(work: Workspace, event: Event) -> None:
    """Soft: everything stays."""
    body: RunDeleted = event.body
    deleted = {"deleted_at": body.at, "deleted_by": event.envelope.actor}
    work.change("runs", body.run_id, lifecycle_stage="deleted", **deleted)


def run_restored(work: Workspace, event: Event) -> None:
    """Undoes a deletion."""
    body: RunRestored = event.body
    work.change("runs", body.run_id, lifecycle_stage="active", deleted_at=None, deleted_by="")


def run_artifacts_removed(work: Workspace, event: Event) -> None:
    """Adds to the receipt of a purged run; of another run there is none."""
    body: RunArtifactsRemoved = event.body
    work.merge("artifacts_removed", (body.run_id, event.origin.offset), body.uri, body.at, body.files, body.bytes)


def late(work: Workspace, event: Event) -> None:
    """An event of a run that is purged: it is counted, and changes nothing.

    Of metrics only the points count, which are seen before and after alike: they are in no order with the purge.
    """
    if isinstance(event.body, RunArtifactsRemoved):
        run_artifacts_removed(work, event)
    elif isinstance(event.body, MetricsLogged):
        work.count_late(event.body.run_id, 0, len(event.body))
    else:
        work.count_late(event.body.run_id, 1, 0)


def params_logged(work: Workspace, event: Event) -> None:
    """The first value of a key wins; the statements find the conflicts."""
    body: ParamsLogged = event.body
    writer, seq = event.envelope.writer, event.envelope.seq
    work.params.extend((body.run_id, key, value, writer, seq) for key, value in body.params.items())


def tags_set(work: Workspace, event: Event) -> None:
    """The last value wins."""
    body: TagsSet = event.body
    for key, value in body.tags.items():
        work.merge("tags", (body.run_id, key), value)


def tags_deleted(work: Workspace, event: Event) -> None:
    """Gone until set again."""
    body: TagsDeleted = event.body
    for key in body.keys:
        work.merge("tags", (body.run_id, key), None)


def inputs_logged(work: Workspace, event: Event) -> None:
    """The same input again does not overwrite (MLflow's log-inputs)."""
    body: InputsLogged = event.body
    for dataset in body.datasets:
        work.merge_first(
            "inputs",
            (body.run_id, dataset.name, dataset.digest),
            dataset.source_type,
            dataset.source,
            dataset.schema,
            dataset.profile,
            canonical_json(dataset.tags),
        )


def artifact_logged(work: Workspace, event: Event) -> None:
    """What was stored last at a path is what lies there."""
    body: ArtifactLogged = event.body
    work.merge("artifacts", (body.run_id, body.path), body.uri, body.size, body.sha256, body.content_type, body.at)


def writer_opened(work: Workspace, event: Event) -> None:
    """Who writes."""
    body: WriterOpened = event.body
    work.change(
        "writers",
        body.run_id,
        body.writer_id,
        host=body.host,
        pid=body.pid,
        rank=body.rank,
        local_rank=body.local_rank,
        world_size=body.world_size,
        client=body.client,
        opened_at=body.at,
    )


def writer_closed(work: Workspace, event: Event) -> None:
    """How many events it has published, by topic."""
    body: WriterClosed = event.body
    work.change("writers", body.run_id, body.writer_id, closed_at=body.at, close_reason=body.reason)
    for topic, count in body.counts.items():
        work.merge("final_counts", (body.run_id, body.writer_id, topic), count)


def metrics_logged(work: Workspace, event: Event) -> None:
    """All of a batch are folded together, in ``metrics.py``."""
    body: MetricsLogged = event.body
    work.metrics.append(body)


def canonical_json(value: Any) -> str:
    """Return JSON text that is the same for the same value."""
    return json.dumps(
        list(value) if isinstance(value, tuple) else dict(value),
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )


HANDLERS = {
    RunStarted: run_started,
    RunUpdated: run_updated,
    RunEnded: run_ended,
    RunLost: run_lost,
    RunRecovered: run_recovered,
    RunDeleted: run_deleted,
    RunRestored: run_restored,
    RunArtifactsRemoved: run_artifacts_removed,
    ParamsLogged: params_logged,
    TagsSet: tags_set,
    TagsDeleted: tags_deleted,
    InputsLogged: inputs_logged,
    ArtifactLogged: artifact_logged,
    WriterOpened: writer_opened,
    WriterClosed: writer_closed,
    MetricsLogged: metrics_logged,
}
ALONE: dict[type, tuple[str, ...]] = {RunPurged: ("purge_meet", "purge_receipt", "purge_models", "purge_rows")}
"""Facts that change many rows at once: the statements that each stands for, in their order."""
