"""The projection of all facts into PostgreSQL: rows, sequences, quarantine and positions of a batch in one transaction.

Fencing: opening takes a new epoch. Every later batch locks and checks it, so two projectors never work at once, and the
older one stops. Each partition moves on only from where the batch begins, so a batch is never applied twice.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from runtide_consumers.postgres.admission import Admitted, Heard, SequenceKey, admit_events, sequence_key
from runtide_consumers.postgres.folding import ALONE, fold, needed_rows, pieces
from runtide_consumers.postgres.layout import prepare_layout
from runtide_consumers.postgres.metrics import summarise
from runtide_consumers.postgres.past import change_rows, differences, extents, history_rows
from runtide_consumers.postgres.rows import TABLES, Workspace
from runtide_consumers.postgres.session import Session, execute_columns, execute_rows
from runtide_consumers.postgres.statements import statements
from runtide_consumers.projection import Batch, Drop, Event, Parked, ParkedChunk, Place, TopicPartition
from runtide_consumers.sequences import Sequence as WriterSequence
from runtide_schemas import topics
from runtide_schemas.errors import Fenced, TransientError
from runtide_schemas.events.runs import RunPurged

_INLINE_EVENTS = 50
"""Fewer events than this are folded in the event loop; more in a thread, so that the loop goes on fetching."""


class PostgresProjection:
    """Implements ``runtide_consumers.projection.Projection``."""

    name = "postgres"
    topics = frozenset({topics.RUNS, topics.METRICS, topics.CATALOG, topics.DEPLOYMENTS})

    def __init__(self, dsn: str, schema: str = "runtide") -> None:
        """``schema`` is the PostgreSQL schema that holds the tables."""
        self._session = Session(dsn, schema)
        self._epoch = 0
        self.duplicates = 0
        self.stale = 0

    async def open(self) -> None:
        """Create or check the layout and take over."""
        async with self._session.transaction() as connection:
            await prepare_layout(connection, self._session.schema)
            self._epoch = await connection.fetchval(_POSITIONS["take_over"].sql)
            await connection.execute(_POSITIONS["raise_epochs"].sql, self._epoch)

    async def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to read of every partition."""
        async with self._session.transaction() as connection:
            rows = await connection.fetch(_POSITIONS["positions"].sql)
        return {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def blocked(self) -> frozenset[str]:
        """Return the entities that have parked records."""
        async with self._session.transaction() as connection:
            return frozenset(row["entity"] for row in await connection.fetch(_POSITIONS["blocked"].sql))

    async def dropped(self) -> Mapping[Place, Drop]:
        """Return the records that are never applied."""
        async with self._session.transaction() as connection:
            rows = await connection.fetch(_POSITIONS["dropped"].sql)
        return {Place(*row[:3]): Drop(*row[3:]) for row in rows}

    async def parked(self, entity: str, most: int, most_bytes: int) -> ParkedChunk:
        """Return the first parked records of an entity."""
        async with self._session.transaction() as connection:
            rows = await connection.fetch(_POSITIONS["parked"].sql, entity, most, most_bytes)
            records = [Parked.from_row(row) for row in rows]
            more = bool(records) and await connection.fetchval(
                _POSITIONS["parked_beyond"].sql, entity, *records[-1].origin.place
            )
        return ParkedChunk(records, more)

    async def parked_at(self, place: Place) -> Parked | None:
        """Return the parked or dropped record of that place."""
        async with self._session.transaction() as connection:
            row = await connection.fetchrow(_POSITIONS["parked_at"].sql, *place)
        return None if row is None else Parked.from_row(row)

    async def apply(self, batch: Batch) -> None:
        """Apply a batch in one transaction."""
        async with self._session.transaction() as connection:
            # Rows and positions go together, so a crash of PostgreSQL that takes the last commits is only re-read.
            await connection.execute("set local synchronous_commit = off")
            await self._check_epoch(connection)
            await self._advance(connection, batch)
            await _park(connection, batch)
            admitted = await _admit(connection, batch.events)
            for piece in pieces(admitted.events):
                await _apply_piece(connection, piece)
            await _save_history(connection, admitted.events)
            await _save_sequences(connection, admitted)
        self.duplicates += admitted.duplicates
        self.stale += admitted.stale

    async def close(self) -> None:
        """Let go of the connection."""
        await self._session.close()

    async def _check_epoch(self, connection: asyncpg.Connection) -> None:
        epoch = await connection.fetchval(_POSITIONS["current_epoch"].sql)
        if epoch != self._epoch:
            raise Fenced(
                f"another projector has taken over schema {self._session.schema}, or a rebuild has swapped it (epoch {epoch}, "
                f"ours is {self._epoch}); run one projector only, and start it again after a rebuild"
            )

    async def _advance(self, connection: asyncpg.Connection, batch: Batch) -> None:
        if not batch.positions:
            return
        partitions = list(batch.positions)
        names, numbers = (
            [partition.topic for partition in partitions],
            [partition.partition for partition in partitions],
        )
        begins = [batch.begins[partition] for partition in partitions]
        await connection.execute(_POSITIONS["begin_partitions"].sql, self._epoch, names, numbers)
        nexts = list(batch.positions.values())
        tag = await connection.execute(_POSITIONS["advance"].sql, names, numbers, begins, nexts, self._epoch)
        if tag != f"UPDATE {len(partitions)}":
            raise TransientError(
                f"positions have moved (wanted to advance {len(partitions)}, got {tag}); reading them anew"
            )


async def _park(connection: asyncpg.Connection, batch: Batch) -> None:
    await execute_rows(connection, _POSITIONS["release"], batch.released)
    await execute_rows(
        connection, _POSITIONS["quarantine"], [tuple(parked.as_row().values()) for parked in batch.parked]
    )


async def _admit(connection: asyncpg.Connection, events: Sequence[Event]) -> Admitted:
    keys = list(dict.fromkeys(map(sequence_key, events)))
    known, heard = await _known_sequences(connection, keys) if keys else ({}, {})
    last = -1
    if any(topic == topics.CATALOG for _, _, topic in keys):
        stored = await connection.fetchval(_POSITIONS["last_request_offset"].sql)
        last = -1 if stored is None else stored
    return admit_events(events, known, last, heard)


async def _known_sequences(
    connection: asyncpg.Connection, keys: Sequence[SequenceKey]
) -> tuple[dict[SequenceKey, WriterSequence], dict[SequenceKey, Heard]]:
    columns = list(zip(*keys, strict=True))
    gaps: defaultdict[SequenceKey, list[tuple[int, int]]] = defaultdict(list)
    heard: defaultdict[SequenceKey, Heard] = defaultdict(Heard)
    for *key, first, last, since in await connection.fetch(_POSITIONS["gaps"].sql, *columns):
        gaps[tuple(key)].append((first, last))
        heard[tuple(key)].since[first, last] = since
    known = {}
    for *key, next_seq, at in await connection.fetch(_POSITIONS["sequences"].sql, *columns):
        known[tuple(key)] = WriterSequence(next_seq, tuple(gaps.get(tuple(key), ())))
        heard[tuple(key)].at = at
    return known, heard


async def _apply_piece(connection: asyncpg.Connection, events: list[Event]) -> None:
    if names := ALONE.get(type(events[0].body)):
        await _apply_alone(connection, events[0], names)
        return
    work = Workspace()
    for table, keys in needed_rows(events).items():
        work.fill(table, await connection.fetch(_ROWS[f"load_{table}"].sql, *zip(*keys, strict=True)))
    summaries = await _fold(work, events)
    await _resolve_experiments(connection, work)
    for table in TABLES:
        await execute_rows(connection, _ROWS[f"save_{table}"], work.to_save(table))
    await _merge(connection, work)
    await execute_rows(connection, _PAST["save_changes"], change_rows(work))
    if summaries is not None:
        await execute_columns(connection, _MERGES["metric_summaries"], summaries)


async def _apply_alone(connection: asyncpg.Connection, event: Event, names: Sequence[str]) -> None:
    """Apply an event that changes many rows by statements of its own, and keep what it has changed."""
    reading, entities = _changed_by(event)
    before = await connection.fetch(_PAST[reading].sql, entities)
    for name in names:
        statement = _ALONE[name]
        await connection.execute(statement.sql, *(_parameter(event, parameter) for parameter in statement.parameters))
    changed = differences(before, await connection.fetch(_PAST[reading].sql, entities), event.origin.place)
    if changed and isinstance(event.body, RunPurged):
        await connection.execute(_PAST["forget_changes"].sql, event.body.run_id)
    await execute_rows(connection, _PAST["save_changes"], changed)


def _changed_by(event: Event) -> tuple[str, list[str]]:
    """Return the statement that reads the rows that an event may change, and for which entities."""
    if isinstance(event.body, RunPurged):
        return "rows_of_runs", [event.body.run_id]
    return "rows_of_models", [event.body.name, getattr(event.body, "previous_name", event.body.name)]


def _parameter(event: Event, name: str) -> Any:
    return event.envelope.actor if name == "actor" else getattr(event.body, name)


async def _save_history(connection: asyncpg.Connection, events: Sequence[Event]) -> None:
    """Keep the events, but of runs that are purged only how that came about."""
    await execute_rows(connection, _PAST["save_history"], history_rows(events))
    if runs := list({event.body.run_id for event in events if event.origin.topic == topics.RUNS}):
        await connection.execute(_PAST["forget_history"].sql, runs)
    await execute_rows(connection, _PAST["save_extents"], extents(events))


async def _fold(work: Workspace, events: list[Event]) -> Any:
    if len(events) <= _INLINE_EVENTS:
        return _fold_all(work, events)
    return await asyncio.to_thread(_fold_all, work, events)


def _fold_all(work: Workspace, events: list[Event]) -> Any:
    fold(work, events)
    return summarise(work.metrics)


async def _resolve_experiments(connection: asyncpg.Connection, work: Workspace) -> None:
    """Fill in the experiment of runs whose request has been answered; answers that come later find the run."""
    if waiting := work.waiting_requests():
        work.resolve(dict(await connection.fetch(_MERGES["answered_requests"].sql, waiting)))


async def _merge(connection: asyncpg.Connection, work: Workspace) -> None:
    await execute_rows(connection, _MERGES["params"], work.params)
    await execute_rows(connection, _MERGES["param_conflicts"], work.params)
    for name, rows in work.merges.items():
        await execute_rows(connection, _MERGES[name], rows.values())
    requests = work.merges.get("experiment_requests", {}).values()
    await execute_rows(connection, _MERGES["resolve_waiting_runs"], requests)


async def _save_sequences(connection: asyncpg.Connection, admitted: Admitted) -> None:
    rows = [(*key, sequence.next_seq, admitted.heard[key].at) for key, sequence in admitted.sequences.items()]
    await execute_rows(connection, _POSITIONS["save_sequences"], rows)
    changed = sorted(admitted.gaps_changed)
    await execute_rows(connection, _POSITIONS["delete_gaps"], changed)
    gaps = [(*key, *gap, admitted.heard[key].since[gap]) for key in changed for gap in admitted.sequences[key].gaps]
    await execute_rows(connection, _POSITIONS["save_gaps"], gaps)
    if admitted.last_request_offset >= 0:
        await connection.execute(_POSITIONS["save_last_request_offset"].sql, admitted.last_request_offset)


_POSITIONS = statements("positions")
_ROWS = statements("rows")
_MERGES = statements("merges")
_ALONE = {**statements("models"), **statements("purge")}
_PAST = statements("past")
