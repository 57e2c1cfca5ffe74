"""What happens inside one transaction: admit, load, fold, write, move the positions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.fold import add_unknown_runs, fold_event, fold_quarantine, load_rows
from runtide_consumers.duckdb.fold_runs import is_purged
from runtide_consumers.duckdb.points import points_table
from runtide_consumers.duckdb.positions import WriterPositions
from runtide_consumers.duckdb.rows import EntityRows, arrow_rows, execute_with
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.duckdb.surrogates import Surrogates
from runtide_consumers.projection import Batch, Event, TopicPartition
from runtide_schemas import topics
from runtide_schemas.errors import Fenced
from runtide_schemas.events.catalog import ExperimentCreated, ExperimentResolved
from runtide_schemas.events.runs import RunPurged, RunStarted, WriterClosed

_RUN_TOPICS = (topics.RUNS, topics.METRICS)
_FORGETTING = ("forget_params", "forget_tags", "forget_artifacts", "forget_writers", "forget_models")
_RESOLVING = (RunStarted, ExperimentCreated, ExperimentResolved)


@dataclass(frozen=True, slots=True)
class FoldState:
    """What is kept in memory between batches; all of it can be read from the file again.

    ``keep`` after the commit, ``forget`` after a rollback; when the outcome is unknown, throw it away.
    """

    surrogates: Surrogates
    writers: WriterPositions
    positions: dict[TopicPartition, int]
    last_request_offset: int
    purged: frozenset[str]
    """Runs that were given up for good."""

    @classmethod
    def load(cls, connection: Connection) -> Self:
        """Read the state from the file."""
        surrogates = Surrogates()
        surrogates.load(connection)
        statement = load_statements("load.sql")["last_request_offset"]
        [(last_request_offset,)] = connection.execute(statement).fetchall()
        purged = frozenset(run_id for (run_id,) in connection.execute(load_statements("load.sql")["purged"]).fetchall())
        return cls(surrogates, WriterPositions(), read_positions(connection), last_request_offset, purged)

    def keep(self) -> None:
        """The transaction was committed."""
        self.surrogates.keep()
        self.writers.keep()

    def forget(self) -> None:
        """The transaction was rolled back."""
        self.surrogates.forget()
        self.writers.forget()


def read_positions(connection: Connection) -> dict[TopicPartition, int]:
    """Return the next offset to read of every partition, as the connection's transaction sees it."""
    rows: Sequence[tuple[str, int, int, int]]
    rows = connection.execute(load_statements("load.sql")["positions"]).fetchall()
    return {TopicPartition(topic, partition): offset for topic, partition, offset, _ in rows}


def fold_batch(connection: Connection, state: FoldState, batch: Batch) -> FoldState:
    """Write a batch in the transaction that is open, and return the state to go on with once it is committed.

    Raises:
        PoisonEvent: an event cannot be folded.
        Fenced: the batch does not begin where the file stands.
    """
    _check_begin(state, batch)
    state.writers.load(connection, batch.events)
    events, last_request_offset = _new_events(state, batch.events)
    for event in events:
        if event.origin.topic in _RUN_TOPICS:
            state.surrogates.runs.number(event.body.run_id)
    entities = [event for event in events if event.origin.topic != topics.METRICS]
    purged = state.purged | _write_entities(connection, state, batch, entities)
    points = [event for event in events if event.origin.topic == topics.METRICS and event.body.run_id not in purged]
    _write_points(connection, state, points)
    state.surrogates.write(connection)
    state.writers.write(connection)
    _write_positions(connection, batch)
    if last_request_offset != state.last_request_offset:
        statement = load_statements("merge.sql")["last_request_offset"]
        connection.execute(statement, {"value": last_request_offset})
    positions = state.positions | dict(batch.positions)
    return replace(state, positions=positions, last_request_offset=last_request_offset, purged=purged)


def _check_begin(state: FoldState, batch: Batch) -> None:
    for partition, offset in batch.begins.items():
        stands = state.positions.get(partition, 0)
        if stands != offset:
            raise Fenced(
                f"the batch begins at offset {offset} of {partition.topic}[{partition.partition}], the DuckDB file "
                f"stands at {stands}; restart to read from there"
            )


def _new_events(state: FoldState, events: Iterable[Event]) -> tuple[list[Event], int]:
    """Leave out duplicates, and facts that a second registrar made of requests already answered."""
    fresh: list[Event] = []
    last = state.last_request_offset
    for event in events:
        if not state.writers.admit(event):
            continue
        if event.origin.topic == topics.CATALOG:
            if event.body.answer.request_offset <= last:
                continue
            last = event.body.answer.request_offset
        fresh.append(event)
    return fresh, last


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
    for run_id in sorted(runs):
        for statement in _FORGETTING:
            connection.execute(load_statements("merge.sql")[statement], {"run_id": run_id})
        number = {"run": state.surrogates.runs.number(run_id)}
        connection.execute(load_statements("merge.sql")["forget_points"], number)


def _write_points(connection: Connection, state: FoldState, events: list[Event]) -> None:
    if events:
        execute_with(connection, "points", "batch_rows", points_table(events, state.surrogates))


def _write_positions(connection: Connection, batch: Batch) -> None:
    rows = [
        {"topic": topic, "partition": partition, "next_offset": offset, "epoch": 0}
        for (topic, partition), offset in batch.positions.items()
    ]
    if rows:
        execute_with(connection, "projection_offsets", "batch_rows", arrow_rows(connection, "projection_offsets", rows))
