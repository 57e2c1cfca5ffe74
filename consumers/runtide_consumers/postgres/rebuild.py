"""Rebuilding the PostgreSQL store: the live schema is ``NAME``, the new one ``NAME_rebuild``, the one before ``NAME_previous``.

The swap renames schemas in one transaction. Whoever reads has the live name as its search path, and PostgreSQL looks
prepared statements up anew after it: nobody has to be told.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from runtide_consumers.postgres.entity_digests import SHARES, PostgresDigests
from runtide_consumers.postgres.errors import translate
from runtide_consumers.postgres.layout import LAYOUT_VERSION
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.session import CONNECT_TIMEOUT_S, Session
from runtide_consumers.postgres.statements import statements
from runtide_consumers.projection import TopicPartition
from runtide_consumers.rebuild.comparison import EntityDigests
from runtide_consumers.rebuild.store import Busy, Frozen, Halted, Positions
from runtide_schemas.errors import FatalError, InvalidRequest

_LONGEST_NAME = 63
_LOCK_WAIT = "300ms"
"""Readers queue up behind a lock that we wait for; ``sql_reader`` gives up after 2 s."""
_UNHURRIED = (
    "set local statement_timeout = 0",
    "set local idle_in_transaction_session_timeout = 0",
    *(f"set local enable_{method} = on" for method in ("seqscan", "hashjoin", "mergejoin")),
)


class PostgresStore:
    """Implements ``RebuildableStore``."""

    name = "postgres"
    layout_version = LAYOUT_VERSION
    code: Sequence[str] = ()
    shares = SHARES

    def __init__(self, dsn: str, schema: str = "runtide") -> None:
        """``schema`` is the live one.

        Raises:
            FatalError: its name is too long to have others made from it.
        """
        self._dsn = dsn
        self.schema, self.new_schema, self.previous_schema = schema, f"{schema}_rebuild", f"{schema}_previous"
        if len(self.previous_schema) > _LONGEST_NAME:
            raise FatalError(f"schema {schema!r} is too long a name for a rebuild; it may have 54 characters")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold an advisory lock, for as long as this connection lives."""
        number = int.from_bytes(hashlib.sha256(f"rebuild {self.schema}".encode()).digest()[:8], "big", signed=True)
        try:
            connection = await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT_S)
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise translate(error) from error
        try:
            if not await connection.fetchval(_STATEMENTS["try_alone"].sql, number):
                raise FatalError(f"another rebuild of schema {self.schema} is at work; wait for it, or end it")
            yield
        finally:
            connection.terminate()

    async def live_version(self) -> int | None:
        """Return the live schema's layout version; None when there is no such schema."""
        return await self._version(self.schema)

    async def live_positions(self) -> Positions:
        """Return where the live schema stands."""
        async with self._transaction(self.schema) as connection:
            return await _positions(connection)

    async def new_positions(self) -> Positions:
        """Return where the new schema stands."""
        async with self._transaction(self.new_schema) as connection:
            if not await connection.fetchval(_STATEMENTS["is_there"].sql):
                return {}
            return await _positions(connection)

    async def prepare(self, made_by: str) -> bool:
        """Keep the new schema that ``made_by`` has begun, or make room for another."""
        async with self._transaction(self.new_schema) as connection:
            if (
                await connection.fetchval(_STATEMENTS["made_by"].sql, self.new_schema) == made_by
                and await self._usable()
            ):
                return True
            await connection.execute(f'drop schema if exists "{self.new_schema}" cascade')
            await connection.execute(f'create schema "{self.new_schema}"')
            await connection.execute(f"comment on schema \"{self.new_schema}\" is '{made_by}'")
            return False

    def new(self) -> PostgresProjection:
        """Return the projection into the new schema."""
        return PostgresProjection(self._dsn, self.new_schema)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Frozen]:
        """Hold a snapshot of the live schema: positions and rows of one moment, as batches are single transactions."""
        async with self._unhurried(self.schema) as connection:
            yield _FrozenSchema(await _positions(connection), PostgresDigests(connection))

    @asynccontextmanager
    async def rebuilt(self) -> AsyncIterator[EntityDigests]:
        """Read the new schema."""
        async with self._unhurried(self.new_schema) as connection:
            yield PostgresDigests(connection)

    @asynccontextmanager
    async def halted(self) -> AsyncIterator[Halted]:
        """Lock the row that each batch of the live projector has to lock first."""
        async with self._transaction(self.schema) as connection:
            await connection.execute(_STATEMENTS["halt"].sql)
            yield _HaltedSchema(self, connection, await _positions(connection))

    async def exchange(self, connection: asyncpg.Connection, incoming: str) -> None:
        """Put another schema in the live one's place, which becomes the previous one; part of a transaction.

        Both get an epoch that no projector has: whoever wrote one of them is told at its next batch, and starts anew.

        Raises:
            Busy: a reader holds a table; the transaction is lost.
        """
        try:
            await self._wait_for_readers(connection)
            await self._exchange(connection, incoming)
        except asyncpg.LockNotAvailableError as error:
            raise Busy(f"somebody reads schema {self.schema} in a transaction that does not end: {error}") from error

    async def _exchange(self, connection: asyncpg.Connection, incoming: str) -> None:
        leaving = f"{self.schema}_leaving"
        both = (self.schema, incoming)
        get, put = (
            "select value from \"{}\".projection_state where name = 'epoch'",
            "update \"{}\".projection_state set value = {} where name = 'epoch'",
        )
        epoch = 1 + max([await connection.fetchval(get.format(name)) for name in both])
        for name in both:
            await connection.execute(put.format(name, epoch))
        await connection.execute(f'alter schema "{self.schema}" rename to "{leaving}"')
        await connection.execute(f'alter schema "{incoming}" rename to "{self.schema}"')
        await connection.execute(f'comment on schema "{self.schema}" is null')
        await connection.execute(f'drop schema if exists "{self.previous_schema}" cascade')
        await connection.execute(f'alter schema "{leaving}" rename to "{self.previous_schema}"')

    async def roll_back(self) -> None:
        """Exchange the live schema and the previous one."""
        version = await self._version(self.previous_schema)
        if version is None:
            raise InvalidRequest(f"there is no schema {self.previous_schema} to go back to: no rebuild was swapped in")
        if version != LAYOUT_VERSION:
            raise InvalidRequest(
                f"schema {self.previous_schema} has layout version {version}, this program writes {LAYOUT_VERSION}: "
                "install the Runtide version that made it, and roll back with that"
            )
        async with self._transaction(self.schema) as connection:
            await connection.execute(_STATEMENTS["halt"].sql)
            await self.exchange(connection, self.previous_schema)

    async def _usable(self) -> bool:
        """Whether the new schema, begun by this very code, may be gone on with: it is not ahead of the live one."""
        live, new = await self.live_positions(), await self.new_positions()
        return all(offset <= live.get(partition, 0) for partition, offset in new.items())

    async def _version(self, schema: str) -> int | None:
        async with self._transaction(schema) as connection:
            if not await connection.fetchval(_STATEMENTS["is_there"].sql):
                return None
            version: int | None = await connection.fetchval(_STATEMENTS["layout_version"].sql)
            return version

    async def _wait_for_readers(self, connection: asyncpg.Connection) -> None:
        """Let those go first who have read some tables and want more of the same moment; others wait for us.

        Not projection_state: the live projector waits for a row of it, which we hold.
        """
        tables = [row[0] for row in await connection.fetch(_STATEMENTS["tables"].sql)]
        names = ", ".join(f'"{self.schema}"."{table}"' for table in tables if table != "projection_state")
        await connection.execute(f"set local lock_timeout = '{_LOCK_WAIT}'")
        await connection.execute(f"lock table {names} in access exclusive mode")

    @asynccontextmanager
    async def _unhurried(self, schema: str) -> AsyncIterator[asyncpg.Connection]:
        async with self._transaction(schema) as connection:
            await connection.execute("set transaction isolation level repeatable read, read only")
            for setting in _UNHURRIED:
                await connection.execute(setting)
            yield connection

    @asynccontextmanager
    async def _transaction(self, schema: str) -> AsyncIterator[asyncpg.Connection]:
        session = Session(self._dsn, schema)
        try:
            async with session.transaction() as connection:
                yield connection
        finally:
            await session.close()


@dataclass(frozen=True, slots=True)
class _FrozenSchema:
    positions: Positions
    digests: EntityDigests


@dataclass(frozen=True, slots=True)
class _HaltedSchema:
    store: PostgresStore
    connection: asyncpg.Connection
    positions: Positions

    async def swap(self) -> None:
        await self.store.exchange(self.connection, self.store.new_schema)


async def _positions(connection: asyncpg.Connection) -> Positions:
    rows = await connection.fetch(statements("positions")["positions"].sql)
    return {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}


_STATEMENTS = statements("rebuild")
