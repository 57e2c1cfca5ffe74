"""The DuckDB projection: one batch, one transaction, on the one thread that owns the file."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import duckdb

from runtide_consumers.duckdb.compaction import compact
from runtide_consumers.duckdb.database_file import Connection, mark_damaged, open_database, open_existing
from runtide_consumers.duckdb.errors import DamagedFile, translate
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.history import HISTORY
from runtide_consumers.duckdb.layout import Layout
from runtide_consumers.duckdb.log_state import LogState, read_positions
from runtide_consumers.duckdb.owner import Owner
from runtide_consumers.duckdb.quarantine import read_blocked, read_dropped, read_parked, read_parked_at
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.projection import Batch, Drop, Parked, ParkedChunk, Place, TopicPartition
from runtide_schemas.errors import InvalidRequest, TransientError

T = TypeVar("T")

log = logging.getLogger(__name__)

_MOST_COMPACTIONS = 3


class DuckdbProjection:
    """Folds events into one DuckDB file; implements ``Projection``.

    DuckDB's lock on the file is the fence: a second process cannot open it.
    """

    def __init__(
        self, settings: DuckdbSettings, layout: Layout = HISTORY, opened: Callable[[], None] = lambda: None
    ) -> None:
        """The file is opened by ``open``, which then calls ``opened``; ``layout`` says what is folded, and how."""
        self.layout = layout
        self._opened = opened
        self.owner = Owner()
        self._settings = settings
        self._state: LogState | None = None
        self._checkpoint_due: float | None = None
        self._has_forgotten = False
        self._going_on = asyncio.Event()
        self._going_on.set()
        self._exchanged = False
        self._halt_timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """Name for logs, metrics and parked events."""
        return self.layout.format.store

    @property
    def topics(self) -> frozenset[str]:
        """Topics that it folds."""
        return self.layout.topics

    async def open(self) -> None:
        """Open the file and make or verify its tables.

        Raises:
            FatalError: the file is in use, of another format, or not ours.
        """
        file = Generations(self._settings.file).live
        await self.owner.open(file, lambda: open_database(self._settings, file, self.layout.format))
        self._opened()

    async def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to read of every partition that was read."""
        self._exchanged = False
        return await self.stands()

    async def stands(self) -> Mapping[TopicPartition, int]:
        """Return the same for whoever only wants to know."""
        return await self.owner.run(lambda connection: self._guard(read_positions, connection))

    async def blocked(self) -> frozenset[str]:
        """Return the entities that have parked events."""
        return await self.owner.run(lambda connection: self._guard(read_blocked, connection))

    async def dropped(self) -> Mapping[Place, Drop]:
        """Return the records that are never applied."""
        return await self.owner.run(lambda connection: self._guard(read_dropped, connection))

    async def parked(self, entity: str, most: int, most_bytes: int) -> ParkedChunk:
        """Return the first parked records of an entity."""
        return await self.owner.run(lambda connection: self._guard(read_parked, connection, entity, most, most_bytes))

    async def parked_at(self, place: Place) -> Parked | None:
        """Return the parked or dropped record of that place."""
        return await self.owner.run(lambda connection: self._guard(read_parked_at, connection, place))

    async def apply(self, batch: Batch) -> None:
        """Write the batch's rows and positions in one transaction.

        Raises:
            PoisonEvent: an event of the batch cannot be folded.
            TransientError: the disk is full, say; or the file was exchanged for another.
            Fenced: the batch does not begin where the file stands.
        """
        await self._going_on.wait()
        if self._exchanged:
            raise TransientError("the DuckDB file was exchanged for a rebuilt one; reading its positions")
        await self.owner.run(lambda connection: self._guard(self._apply, connection, batch))

    async def halt(self, seconds: float) -> Mapping[TopicPartition, int]:
        """Let batches wait for so long, or until the file is exchanged; return where the file stands meanwhile."""
        self._hold()
        self._halt_timer = asyncio.get_running_loop().call_later(seconds, self._going_on.set)
        return await self.stands()

    async def exchange(self, name: str, *, behind: bool = False) -> None:
        """Go on with another file of this store. Readers see the old one or the new one, never none.

        Args:
            name: name of the file, which nobody has open.
            behind: whether it may stand behind the live one; the projector then folds what it lacks.

        Raises:
            InvalidRequest: it may not, and does.
            FatalError: it is no file of this store, in use, or of another format.
        """
        generations = Generations(self._settings.file)
        file = generations.named(name)
        self._hold()
        try:
            stands = await self.stands()
            await self.owner.open(file, lambda: self._taken_over(generations, file, {} if behind else stands))
            self._state, self._checkpoint_due, self._exchanged = None, None, True
        finally:
            self._going_on.set()

    def _hold(self) -> None:
        if self._halt_timer is not None:
            self._halt_timer.cancel()
        self._going_on.clear()

    def _taken_over(self, generations: Generations, file: Path, least: Mapping[TopicPartition, int]) -> Connection:
        connection = open_existing(self._settings, file, self.layout.format)
        try:
            found = read_positions(connection)
            if any(found.get(partition, 0) < offset for partition, offset in least.items()):
                raise InvalidRequest(f"{file.name} stands behind the live file: fold it further, and try again")
            generations.turn_to(file)
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close the file; DuckDB moves its write-ahead log into it."""
        await self.owner.close()

    def _apply(self, connection: Connection, batch: Batch) -> None:
        state, self._state = self._state or self.layout.load(connection), None
        connection.execute("BEGIN")
        try:
            after = self.layout.fold(connection, state, batch)
        except BaseException:
            _roll_back(connection)
            state.forget()
            self._state = state
            raise
        try:
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)  # whether it committed is unknown: the state is read anew
            raise
        after.keep()
        self._has_forgotten = self._has_forgotten or after.purged != state.purged
        self._state = after
        self._checkpoint_now_and_then(connection)

    def _checkpoint_now_and_then(self, connection: Connection) -> None:
        now = time.monotonic()
        if self._checkpoint_due is None:
            self._checkpoint_due = now + self._settings.checkpoint_seconds
        elif now >= self._checkpoint_due:
            self._checkpoint_due = None
            if checkpoint(connection) and self._has_forgotten:
                self._has_forgotten = False
                for _ in range(_MOST_COMPACTIONS):  # each time what is left moves farther to the front
                    if not (compact(connection, self._settings.compact_bytes) and checkpoint(connection)):
                        break

    def _guard(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return work(*arguments)
        except duckdb.Error as error:
            translated = translate(error)
            if isinstance(translated, DamagedFile):
                mark_damaged(self.owner.file)
            raise translated from error


def checkpoint(connection: Connection) -> bool:
    """Move the write-ahead log into the file; return False when another transaction is in the way."""
    try:
        connection.execute("CHECKPOINT")
    except duckdb.TransactionException as error:
        log.info("checkpoint put off: %s", error)
        return False
    return True


def _roll_back(connection: Connection) -> None:
    with contextlib.suppress(duckdb.Error):  # after some failures DuckDB has already ended the transaction
        connection.execute("ROLLBACK")
