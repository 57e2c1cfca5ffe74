"""The DuckDB projection: one batch, one transaction, on the one thread that owns the file."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import duckdb

from runtide_consumers.duckdb.database_file import Connection, mark_damaged, open_database
from runtide_consumers.duckdb.errors import DamagedFile, translate
from runtide_consumers.duckdb.owner import Owner
from runtide_consumers.duckdb.quarantine import read_blocked, read_dropped, read_parked, read_parked_at
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.transaction import FoldState, fold_batch, read_positions
from runtide_consumers.projection import Batch, Drop, Parked, ParkedChunk, Place, TopicPartition
from runtide_schemas import topics

T = TypeVar("T")
TOPICS = frozenset({topics.RUNS, topics.METRICS, topics.CATALOG, topics.DEPLOYMENTS})

log = logging.getLogger(__name__)


class DuckdbProjection:
    """Folds all events into one DuckDB file; implements ``Projection``.

    DuckDB's lock on the file is the fence: a second process cannot open it.
    """

    def __init__(self, settings: DuckdbSettings) -> None:
        """The file is opened by ``open``."""
        self.owner = Owner()
        self._settings = settings
        self._state: FoldState | None = None
        self._checkpoint_due: float | None = None

    @property
    def name(self) -> str:
        """Name for logs, metrics and parked events."""
        return "duckdb"

    @property
    def topics(self) -> frozenset[str]:
        """Topics that it folds."""
        return TOPICS

    async def open(self) -> None:
        """Open the file and make or verify its tables.

        Raises:
            FatalError: the file is in use, of another format, or not ours.
        """
        await self.owner.open(lambda: open_database(self._settings))

    async def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to read of every partition that was read."""
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
            TransientError: the disk is full, say.
            Fenced: the batch does not begin where the file stands.
        """
        await self.owner.run(lambda connection: self._guard(self._apply, connection, batch))

    async def close(self) -> None:
        """Close the file; DuckDB moves its write-ahead log into it."""
        await self.owner.close()

    def _apply(self, connection: Connection, batch: Batch) -> None:
        state, self._state = self._state or FoldState.load(connection), None
        connection.execute("BEGIN")
        try:
            after = fold_batch(connection, state, batch)
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
        self._state = after
        self._checkpoint_now_and_then(connection)

    def _checkpoint_now_and_then(self, connection: Connection) -> None:
        now = time.monotonic()
        if self._checkpoint_due is None:
            self._checkpoint_due = now + self._settings.checkpoint_seconds
        elif now >= self._checkpoint_due:
            self._checkpoint_due = None
            checkpoint(connection)

    def _guard(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return work(*arguments)
        except duckdb.Error as error:
            translated = translate(error)
            if isinstance(translated, DamagedFile):
                mark_damaged(self._settings.file)
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
