"""The fold of one batch: which events are new, which rows they need, what becomes of them."""

from collections.abc import Callable, Iterable
from typing import Any

from runtide_consumers.duckdb import fold_catalog, fold_deployments, fold_logged_models, fold_runs
from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.rows import EntityRows
from runtide_consumers.duckdb.surrogates import Surrogates
from runtide_consumers.poison import last_line
from runtide_consumers.projection import Batch, Event
from runtide_schemas import topics
from runtide_schemas.errors import FoldFailed, PoisonEvent, RuntideError
from runtide_schemas.events.deployments import DeploymentRolledBack
from runtide_schemas.events.logged_models import belongs_to_run
from runtide_schemas.events.runs import WriterClosed, WriterOpened

FOLDS = fold_runs.FOLDS | fold_logged_models.FOLDS | fold_catalog.FOLDS | fold_deployments.FOLDS
_MODEL_TABLES = ("registered_models", "model_versions", "model_aliases")
Scopes = Callable[[Any], Iterable[tuple[str, str]]]


def _run_scopes(body: Any) -> Iterable[tuple[str, str]]:
    yield "runs", body.run_id
    if isinstance(body, WriterOpened | WriterClosed):
        yield "writers", body.run_id
    if type(body) in fold_logged_models.CHANGING:
        yield "claimed_models", body.model_id


def _catalog_scopes(body: Any) -> Iterable[tuple[str, str]]:
    if hasattr(body, "experiment_id"):
        yield "experiments", body.experiment_id
    for attribute in ("name", "previous_name"):
        if name := getattr(body, attribute, ""):
            yield from ((table, name) for table in _MODEL_TABLES)


def _deployment_scopes(body: Any) -> Iterable[tuple[str, str]]:
    yield "deployments", body.deployment_id
    if isinstance(body, DeploymentRolledBack):
        yield "deployments", body.to_deployment_id


SCOPES: dict[str, Scopes] = {
    topics.RUNS: _run_scopes,
    topics.CATALOG: _catalog_scopes,
    topics.DEPLOYMENTS: _deployment_scopes,
}
"""Which rows events of a topic need before they can be folded: table and scope (see load.sql)."""


def load_rows(connection: Connection, rows: EntityRows, events: Iterable[Event]) -> None:
    """Read the rows that these events need."""
    wanted: dict[str, set[str]] = {}
    for event in events:
        for table, scope in SCOPES[event.origin.topic](event.body):
            wanted.setdefault(table, set()).add(scope)
    for table, scopes in wanted.items():
        rows.load(connection, table, scopes)


def fold_event(rows: EntityRows, event: Event) -> None:
    """Apply one event to the rows.

    Raises:
        PoisonEvent: its handler failed, or there is none.
    """
    fold = FOLDS.get(type(event.body))
    if fold is None:
        raise PoisonEvent(f"no fold for {event.envelope.type}; upgrade this projection")
    if (
        event.origin.topic == topics.RUNS
        and belongs_to_run(event.body)
        and fold_runs.is_purged(rows, event.body.run_id)
    ):
        return
    try:
        fold(rows, event)
    except (RuntideError, MemoryError):
        raise
    except Exception as error:
        raise FoldFailed(f"folding {event.envelope.type} failed: {last_line(error)}") from error


def add_unknown_runs(rows: EntityRows, surrogates: Surrogates) -> None:
    """Give every run that this batch met for the first time its row, before its events are folded."""
    for run_id in surrogates.runs.added:
        rows["runs"].put(fold_runs.unknown_run(run_id))


def fold_quarantine(rows: EntityRows, batch: Batch) -> None:
    """Take released records out, and keep parked ones as they came."""
    for place in batch.released:
        rows["quarantine"].remove(*place)
    for parked in batch.parked:
        rows["quarantine"].put(parked.as_row())
