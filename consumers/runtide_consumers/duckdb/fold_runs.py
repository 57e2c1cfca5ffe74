"""Folds of runtide.runs: one plain function per event type."""

from collections.abc import Callable, Mapping
from typing import Any

from runtide_consumers import losses
from runtide_consumers.duckdb.rows import EntityRows, Row
from runtide_consumers.projection import Event
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

Fold = Callable[[EntityRows, Event], None]


def unknown_run(run_id: str) -> Row:
    """Return the row of a run of which something is known but not yet its start."""
    return {
        "run_id": run_id,
        "name": "",
        "experiment_id": "",
        "experiment_request": "",
        "experiment_name": "",
        "user_id": "",
        "source_name": "",
        "source_type": "",
        "source_version": "",
        "parent_run_id": "",
        "status": "RUNNING",
        "start_time": None,
        "end_time": None,
        "end_reason": "",
        "artifact_uri": "",
        "lifecycle_stage": "active",
        "started": False,
        **losses.UNKNOWN,
    }


def _started(rows: EntityRows, event: Event) -> None:
    """The first one says what the run is, whichever writer it came from."""
    body: RunStarted = event.body
    _set_tags(rows, body.run_id, body.tags)
    known = rows["runs"].get(body.run_id)
    if known is None or known["started"]:
        return
    rows["runs"].change(
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


def _updated(rows: EntityRows, event: Event) -> None:
    body: RunUpdated = event.body
    given = {"name": body.name, "end_time": body.end_time}
    columns: dict[str, Any] = {"end_time": None, "end_reason": ""} if body.status in losses.UNFINISHED else {}
    columns |= {column: value for column, value in given.items() if value is not None}
    known = rows["runs"].get(body.run_id)
    if known is not None and body.status is not None:
        columns |= losses.stated(known, body.status)
    rows["runs"].change(body.run_id, **columns)


def _ended(rows: EntityRows, event: Event) -> None:
    """The latest end wins, by its own time: the spool of an attempt that died may come after its successor's end."""
    body: RunEnded = event.body
    known = rows["runs"].get(body.run_id)
    if known is None or (known["end_time"] is not None and known["end_time"] > body.end_time):
        return
    status = losses.stated(known, body.status)
    rows["runs"].change(body.run_id, end_time=body.end_time, end_reason=body.reason, **status)


def _lost(rows: EntityRows, event: Event) -> None:
    body: RunLost = event.body
    if (known := rows["runs"].get(body.run_id)) is not None:
        rows["runs"].change(body.run_id, **losses.lost(known, body.episode, body.silent_since))


def _recovered(rows: EntityRows, event: Event) -> None:
    body: RunRecovered = event.body
    if (known := rows["runs"].get(body.run_id)) is not None:
        rows["runs"].change(body.run_id, **losses.recovered(known, body.episode))


def _deleted(rows: EntityRows, event: Event) -> None:
    rows["runs"].change(event.body.run_id, lifecycle_stage="deleted")


def _restored(rows: EntityRows, event: Event) -> None:
    rows["runs"].change(event.body.run_id, lifecycle_stage="active")


def _purged(rows: EntityRows, event: Event) -> None:
    """The row says so; a run that is not deleted was restored before. What else the run has goes with the batch."""
    known = rows["runs"].get(event.body.run_id)
    if known is not None and known["lifecycle_stage"] == "deleted":
        gone = {"user_id": "", "source_name": "", "source_version": ""}
        rows["runs"].change(event.body.run_id, lifecycle_stage="purged", **gone)


def is_purged(rows: EntityRows, run_id: str) -> bool:
    """Return whether a run was given up for good: its later events change nothing."""
    known = rows["runs"].get(run_id)
    return known is not None and known["lifecycle_stage"] == "purged"


def _params_logged(rows: EntityRows, event: Event) -> None:
    body: ParamsLogged = event.body
    for key, value in body.params.items():
        if rows["params"].get(body.run_id, key) is None:
            rows["params"].put({"run_id": body.run_id, "key": key, "value": value})


def _tags_set(rows: EntityRows, event: Event) -> None:
    _set_tags(rows, event.body.run_id, event.body.tags)


def _set_tags(rows: EntityRows, run_id: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        rows["tags"].put({"run_id": run_id, "key": key, "value": value})


def _tags_deleted(rows: EntityRows, event: Event) -> None:
    body: TagsDeleted = event.body
    for key in body.keys:
        rows["tags"].remove(body.run_id, key)


def _artifact_logged(rows: EntityRows, event: Event) -> None:
    body: ArtifactLogged = event.body
    rows["artifacts"].put(
        {
            "run_id": body.run_id,
            "path": body.path,
            "uri": body.uri,
            "size": body.size,
            "sha256": body.sha256,
            "content_type": body.content_type,
            "stored_at": body.at,
        }
    )


def _writer_opened(rows: EntityRows, event: Event) -> None:
    body: WriterOpened = event.body
    rows["writers"].put(
        _writer(rows, body.run_id, body.writer_id)
        | {
            "host": body.host,
            "pid": body.pid,
            "rank": body.rank,
            "local_rank": body.local_rank,
            "world_size": body.world_size,
            "client": body.client,
            "opened_at": body.at,
        }
    )


def _writer_closed(rows: EntityRows, event: Event) -> None:
    body: WriterClosed = event.body
    closing = {"closed_at": body.at, "close_reason": body.reason}
    rows["writers"].put(_writer(rows, body.run_id, body.writer_id) | closing)


def _writer(rows: EntityRows, run_id: str, writer_id: str) -> Row:
    return rows["writers"].get(run_id, writer_id) or {
        "run_id": run_id,
        "writer_id": writer_id,
        "host": "",
        "pid": 0,
        "rank": None,
        "local_rank": None,
        "world_size": None,
        "client": "",
        "opened_at": None,
        "closed_at": None,
        "close_reason": "",
    }


def _not_kept(rows: EntityRows, event: Event) -> None:
    """Inputs and receipts are state, not history: PostgreSQL keeps them."""


FOLDS: dict[type[Any], Fold] = {
    RunStarted: _started,
    RunUpdated: _updated,
    RunEnded: _ended,
    RunLost: _lost,
    RunRecovered: _recovered,
    RunDeleted: _deleted,
    RunRestored: _restored,
    RunPurged: _purged,
    RunArtifactsRemoved: _not_kept,
    ParamsLogged: _params_logged,
    TagsSet: _tags_set,
    TagsDeleted: _tags_deleted,
    InputsLogged: _not_kept,
    ArtifactLogged: _artifact_logged,
    WriterOpened: _writer_opened,
    WriterClosed: _writer_closed,
}
