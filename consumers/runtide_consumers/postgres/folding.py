"""Folding a batch: which rows are needed, which handler folds which event, in which pieces."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from runtide_consumers.poison import last_line
from runtide_consumers.postgres import fold_catalog, fold_deployments, fold_logged_models, fold_runs
from runtide_consumers.postgres.rows import Key, Workspace
from runtide_consumers.projection import Event
from runtide_schemas import topics
from runtide_schemas.errors import FoldFailed, RuntideError
from runtide_schemas.events.catalog import StageTransitioned
from runtide_schemas.events.deployments import DeploymentRolledBack
from runtide_schemas.events.logged_models import belongs_to_run
from runtide_schemas.events.runs import WriterClosed, WriterOpened

Handler = Callable[[Workspace, Event], None]

HANDLERS: dict[type, Handler] = {
    **fold_runs.HANDLERS,
    **fold_logged_models.HANDLERS,
    **fold_catalog.HANDLERS,
    **fold_deployments.HANDLERS,
}
ALONE: Mapping[type, tuple[str, ...]] = {**fold_catalog.ALONE, **fold_runs.ALONE}
_RUN_TOPICS = (topics.RUNS, topics.METRICS)


def pieces(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Return the events in consecutive pieces: one that changes many rows at once stands alone."""
    piece: list[Event] = []
    for event in events:
        if type(event.body) in ALONE:
            if piece:
                yield piece
            yield [event]
            piece = []
        else:
            piece.append(event)
    if piece:
        yield piece


def needed_rows(events: Iterable[Event]) -> dict[str, list[Key]]:
    """Return the keys of the rows that folding ``events`` reads or writes, by table."""
    needed: dict[str, dict[Key, None]] = {}
    for event in events:
        for table, key in _keys(event):
            needed.setdefault(table, {})[key] = None
    return {table: list(keys) for table, keys in needed.items()}


def fold(work: Workspace, events: Iterable[Event]) -> None:
    """Fold events into a workspace that holds the rows they need.

    Raises:
        FoldFailed: a handler failed: the event is not what it should be, or the handler has a bug.
    """
    for event in events:
        work.place = event.origin.place
        try:
            if event.origin.topic in _RUN_TOPICS and belongs_to_run(event.body):
                work.touch("runs", event.body.run_id)
                if work.row("runs", event.body.run_id)["lifecycle_stage"] == "purged":
                    fold_runs.late(work, event)
                    continue
            HANDLERS[type(event.body)](work, event)
        except (RuntideError, MemoryError):
            raise
        except Exception as error:
            raise FoldFailed(f"folding {type(event.body).__name__} failed: {last_line(error)}") from error


def _keys(event: Event) -> Iterator[tuple[str, Key]]:
    body: Any = event.body
    if event.origin.topic in _RUN_TOPICS and belongs_to_run(body):
        yield "runs", (body.run_id,)
    if event.origin.topic == topics.RUNS and hasattr(body, "model_id"):
        yield "logged_models", (body.run_id, body.model_id)
    if isinstance(body, WriterOpened | WriterClosed):
        yield "writers", (body.run_id, body.writer_id)
    if event.origin.topic == topics.DEPLOYMENTS:
        yield "deployments", (body.deployment_id,)
    if isinstance(body, DeploymentRolledBack):
        yield "deployments", (body.to_deployment_id,)
    if event.origin.topic == topics.CATALOG:
        yield from _catalog_keys(body)


def _catalog_keys(body: Any) -> Iterator[tuple[str, Key]]:
    if hasattr(body, "experiment_id"):
        yield "experiments", (body.experiment_id,)
    elif hasattr(body, "webhook_id"):
        yield "webhooks", (body.webhook_id,)
    elif hasattr(body, "endpoint"):
        yield "endpoints", (body.endpoint,)
    elif hasattr(body, "name"):
        yield "registered_models", (body.name,)
        if hasattr(body, "version"):
            yield "model_versions", (body.name, body.version)
        if isinstance(body, StageTransitioned):
            yield from (("model_versions", (body.name, version)) for version in body.archived_versions)
