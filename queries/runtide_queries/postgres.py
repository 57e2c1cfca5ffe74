"""How PostgreSQL is asked: a read-only pool, bounded in time, whose errors say what to do."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import asyncpg

from runtide_queries.statements import Statement
from runtide_schemas.errors import InvalidRequest, TransientError

SCHEMA = "runtide"
_AWAY = ("08", "25", "40", "53", "55", "57", "58")
_NO_TABLES = ("42P01", "3F000", "42703")
_DATA = "22"
_WHICH_SCHEMA = "select to_regnamespace($1)::oid::bigint"


class Snapshot:
    """One connection inside a read-only transaction: every statement sees the same moment."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        """Return the records of a named statement."""
        return await self.fetch(statement.positional, statement.arguments(values))

    async def row(self, statement: Statement, **values: Any) -> Any | None:
        """Return the first record of a named statement, or None."""
        return next(iter(await self.rows(statement, **values)), None)

    async def fetch(self, text: str, arguments: Sequence[Any]) -> list[Any]:
        """Return the records of a compiled statement with ``$1`` parameters."""
        records: list[Any] = await self._connection.fetch(text, *arguments)
        return records


class Postgres:
    """A pool of read-only sessions on the projection's schema. Connects when first asked, not before.

    Raises from every question:
        TransientError: the store is away, slow, or has no tables yet; try again.
        InvalidRequest: a value does not fit its column.
    """

    def __init__(self, dsn: str, *, size: int = 8, timeout_s: float = 10.0, schema: str = SCHEMA) -> None:
        self._dsn = dsn
        self._size = size
        self._timeout_s = timeout_s
        self._schema = schema
        self._pool: Any = None
        self._prepared_for: int | None = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._size,
            timeout=self._timeout_s,
            command_timeout=self._timeout_s,
            max_inactive_connection_lifetime=60,
            reset=_nothing_to_undo,
            server_settings={
                "application_name": "runtide-queries",
                "search_path": self._schema,
                "default_transaction_read_only": "on",
                "plan_cache_mode": "force_custom_plan",  # a search's best plan depends on its values
                "jit": "off",
                "random_page_cost": "1.1",  # a page's runs lie anywhere, on no disk that turns
                "statement_timeout": f"{int(self._timeout_s * 1000)}",
                "idle_in_transaction_session_timeout": f"{int(self._timeout_s * 2000)}",
            },
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.wait_for(self._pool.close(), 2.0)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One consistent view of the store (REPEATABLE READ) for several statements."""
        with _translated():
            async with (
                asyncio.timeout(self._timeout_s),
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await self._forget_other_tables(connection)
                yield Snapshot(connection)

    async def _forget_other_tables(self, connection: Any) -> None:
        """Have statements prepared anew once a rebuild has put other tables in the place of those they were prepared for.

        PostgreSQL would refuse one whose result has other columns now, and inside a transaction asyncpg cannot try again.
        """
        found = await connection.fetchval(_WHICH_SCHEMA, self._schema)
        if found != self._prepared_for:
            await connection.reload_schema_state()  # of the whole pool
            self._prepared_for = found

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        """Return the records of a named statement."""
        return await self.fetch(statement.positional, statement.arguments(values))

    async def row(self, statement: Statement, **values: Any) -> Any | None:
        """Return the first record of a named statement, or None."""
        return next(iter(await self.rows(statement, **values)), None)

    async def fetch(self, text: str, arguments: Sequence[Any]) -> list[Any]:
        """Return the records of a compiled statement with ``$1`` parameters."""
        with _translated():
            async with asyncio.timeout(self._timeout_s):
                records: list[Any] = await self._pool.fetch(text, *arguments)
                return records


async def _nothing_to_undo(_connection: Any) -> None:
    """Spare a session between two questions what asyncpg else sends it: a round trip as long as a short question's.

    Nothing is set, listened to or locked here; a transaction that was left open asyncpg itself ends.
    """


@contextmanager
def _translated() -> Iterator[None]:
    """Turn asyncpg's errors into ours at this one seam, the cause kept."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        ours = _ours(error)
        if ours is None:
            raise
        raise ours from error


def _ours(error: Exception) -> Exception | None:
    if isinstance(error, asyncpg.PostgresError):
        return _of_state(error, str(getattr(error, "sqlstate", "") or ""))
    if isinstance(error, asyncpg.DataError):
        return InvalidRequest(f"a value does not fit its column: {error}")
    if isinstance(error, TimeoutError):
        return TransientError("PostgreSQL did not answer in time; try again, or narrow the question")
    return TransientError(f"PostgreSQL is away ({type(error).__name__}: {error}); try again when it is back")


def _of_state(error: Exception, state: str) -> Exception | None:
    if state.startswith(_DATA):
        return InvalidRequest(f"a value does not fit its column: {error}")
    if state in _NO_TABLES:
        return TransientError(
            f"the PostgreSQL projection has no such table yet ({error}); start it: python -m runtide_consumers.postgres"
        )
    if state.startswith(_AWAY) or isinstance(error, asyncpg.InvalidCachedStatementError):
        return TransientError(f"PostgreSQL cannot answer now ({type(error).__name__}: {error}); try again")
    return None
