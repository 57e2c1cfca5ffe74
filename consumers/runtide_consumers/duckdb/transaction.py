"""What happens inside one transaction of the history: admit, load, fold, write, move the positions."""

from dataclasses import dataclass, replace
from typing import Self

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.fold import add_unknown_runs, fold_event, fold_quarantine, load_rows
from runtide_consumers.duckdb.fold_runs import is_purged
from runtide_consumers.duckdb.log_state import LogState, read_last_request_offset, read_positions
from runtide_consumers.duckdb.model_points import model_points_table
from runtide_consumers.duckdb.points import points_table
from runtide_consumers.duckdb.positions import WriterPositions
from runtide_consumers.duckdb.rows import EntityRows, execute_with
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.duckdb.surrogates import Surrogates
from runtide_consumers.projection import Batch, Event
from runtide_schemas import topics
from runtide_schemas.events.catalog import ExperimentCreated, ExperimentResolved
from runtide_schemas.events.logged_models import ModelMetricsLogged, belongs_to_run
from runtide_schemas.events.runs import RunPurged, RunStarted, WriterClosed

_RUN_TOPICS = (topics.RUNS, topics.METRICS)
_FORGETTING = (
    *("forget_params", "forget_tags", "forget_artifacts", "forget_writers"),
    *("forget_models", "forget_model_params", "forget_model_tags", "forget_model_points", "forget_run_models"),
)
_RESOLVING = (RunStarted, ExperimentCreated, ExperimentResolved)


@dataclass(frozen=True, slots=True)
class FoldState(LogState):
    """What the history keeps in memory between batches: also the numbers that stand for names."""

    surrogates: Surrogates

    @classmethod
    def load(cls, connection: Connection) -> Self:
        """Read the state from the file."""
        surrogates = Surrogates()
        surrogates.load(connection)
        purged = frozenset(run_id for (run_id,) in connection.execute(load_statements("load.sql")["purged"]).fetchall())
        last = read_last_request_offset(connection)
        return cls(WriterPositions(), read_positions(connection), last, purged, surrogates)

    def keep(self) -> None:
        """The transaction was committed."""
        LogState.keep(self)
        self.surrogates.keep()

    def forget(self) -> None:
        """The transaction was rolled back."""
        LogState.forget(self)
        self.surrogates.forget()


def fold_batch(connection: Connection, state: FoldState, batch: Batch) -> FoldState:
    """Write a batch in the transaction that is open, and return the state to go on with once it is committed.

    Raises:
        PoisonEvent: an event cannot be folded.
        Fenced: the batch does not begin where the file stands.
    """
    state.check_begin(batch)
    state.writers.load(connection, batch.events)
    events, last_request_offset = state.new_events(batch.events)
    for event in events:
        if event.origin.topic in _RUN_TOPICS and belongs_to_run(event.body):
            state.surrogates.runs.number(event.body.run_id)
    entities = [event for event in events if event.origin.topic != topics.METRICS]
    purged = state.purged | _write_entities(connection, state, batch, entities)
    points = [event for event in events if event.origin.topic == topics.METRICS and event.body.run_id not in purged]
    _write_points(connection, state, points)
    _write_model_points(connection, entities, purged)
    state.surrogates.write(connection)
    return replace(state.write(connection, batch, last_request_offset), purged=purged)


def _write_entities(connection: Connection, state: FoldState, batch: Batch, events: list[Event]) -> frozenset[str]:
    """Write everything but points, and return the runs that the batch has purged."""
    rows = EntityRows()
    load_rows(connection, rows, events)
    add_unknown_runs(rows, state.surrogates)
    for event in events:
        fold_event(rows, event)
        if isinstance(event.body, WriterClosed) and not is_purged(rows, event.body.run_id):
            state.writers.close(event.body)
    fold_quarantine(rows, batch)
    rows.write(connection)
    if any(isinstance(event.body, _RESOLVING) for event in events):
        connection.execute(load_statements("merge.sql")["resolve_experiments"])
    told = {event.body.run_id for event in events if isinstance(event.body, RunPurged)}
    purged = frozenset(run_id for run_id in told - state.purged if is_purged(rows, run_id))
    _forget(connection, state, purged)
    return purged


def _forget(connection: Connection, state: FoldState, runs: frozenset[str]) -> None:
    """Take everything of these runs out of the file but their rows; what of them came in this batch is written by now."""
    if not runs:
        return
    for statement in _FORGETTING:
        connection.execute(load_statements("merge.sql")[statement], {"run_ids": sorted(runs)})
    numbers = [state.surrogates.runs.number(run_id) for run_id in runs]
    connection.execute(load_statements("merge.sql")["forget_points"], {"runs": numbers})


def _write_points(connection: Connection, state: FoldState, events: list[Event]) -> None:
    if events:
        execute_with(connection, "points", "batch_rows", points_table(events, state.surrogates))


def _write_model_points(connection: Connection, events: list[Event], purged: frozenset[str]) -> None:
    bodies = [event.body for event in events if isinstance(event.body, ModelMetricsLogged)]
    if kept := [body for body in bodies if body.model_points and body.run_id not in purged]:
        execute_with(connection, "model_points", "batch_rows", model_points_table(kept))
