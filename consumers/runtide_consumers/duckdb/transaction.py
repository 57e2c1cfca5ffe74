"""What happens inside one transaction of the history: admit, load, fold, write, move the positions."""

from dataclasses import dataclass
from typing import Self

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.fold import add_unknown_runs, fold_event, fold_quarantine, load_rows
from runtide_consumers.duckdb.log_state import LogState, read_last_request_offset, read_positions
from runtide_consumers.duckdb.points import points_table
from runtide_consumers.duckdb.positions import WriterPositions
from runtide_consumers.duckdb.rows import EntityRows, execute_with
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.duckdb.surrogates import Surrogates
from runtide_consumers.projection import Batch, Event
from runtide_schemas import topics
from runtide_schemas.events.catalog import ExperimentCreated, ExperimentResolved
from runtide_schemas.events.runs import RunStarted, WriterClosed

_RUN_TOPICS = (topics.RUNS, topics.METRICS)
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
        last = read_last_request_offset(connection)
        return cls(WriterPositions(), read_positions(connection), last, surrogates)

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
        if event.origin.topic in _RUN_TOPICS:
            state.surrogates.runs.number(event.body.run_id)
    _write_entities(connection, state, batch, [event for event in events if event.origin.topic != topics.METRICS])
    _write_points(connection, state, [event for event in events if event.origin.topic == topics.METRICS])
    state.surrogates.write(connection)
    return state.write(connection, batch, last_request_offset)


def _write_entities(connection: Connection, state: FoldState, batch: Batch, events: list[Event]) -> None:
    rows = EntityRows()
    load_rows(connection, rows, events)
    add_unknown_runs(rows, state.surrogates)
    for event in events:
        fold_event(rows, event)
        if isinstance(event.body, WriterClosed):
            state.writers.close(event.body)
    fold_quarantine(rows, batch)
    rows.write(connection)
    if any(isinstance(event.body, _RESOLVING) for event in events):
        connection.execute(load_statements("merge.sql")["resolve_experiments"])


def _write_points(connection: Connection, state: FoldState, events: list[Event]) -> None:
    if events:
        execute_with(connection, "points", "batch_rows", points_table(events, state.surrogates))
