"""One connection to PostgreSQL that comes back by itself, and statements over whole columns."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import asyncpg

from runtide_consumers.postgres.errors import translate
from runtide_consumers.postgres.statements import Statement
from runtide_schemas.errors import FatalError, PoisonEvent, RuntideError

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 300.0
CLOSE_TIMEOUT_S = 3.0
_SETTINGS = {
    "application_name": "runtide-projector",
    "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
    "lock_timeout": "30000",
    "idle_in_transaction_session_timeout": "120000",
    # Every statement finds its rows by key. Plans are cached, and one made while a table was small and had no
    # statistics would scan or hash all of it ever after.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")


class Session:
    """The projector's connection. Whatever fails, the connection is thrown away and made anew for the next use."""

    def __init__(self, dsn: str, schema: str) -> None:
        if not _SCHEMA.match(schema):
            raise FatalError(f"schema {schema!r} must be lowercase letters, digits and underscores")
        self._dsn = dsn
        self.schema = schema
        self._connection: asyncpg.Connection | None = None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Run the block in one transaction.

        Raises:
            TransientError: the store is away, or nobody knows whether the commit took place.
            PoisonEvent: the store refuses the data; the connection stays.
            FatalError: the store refuses the statement.
        """
        try:
            connection = await self._connected()
            async with connection.transaction():
                yield connection
        except RuntideError:
            raise
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            translated = translate(error)
            if not isinstance(translated, PoisonEvent):
                self._drop()
            raise translated from error
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """Close the connection; never raises, never hangs."""
        if self._connection is not None and not self._connection.is_closed():
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await asyncio.wait_for(self._connection.close(), CLOSE_TIMEOUT_S)
        self._drop()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S + 10,
                server_settings={**_SETTINGS, "search_path": self.schema},
            )
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None


async def execute_columns(
    connection: asyncpg.Connection, statement: Statement, columns: Sequence[Sequence[Any]]
) -> str:
    """Execute a statement over columns of equal length, one parameter each; return PostgreSQL's command tag."""
    tag: str = await connection.execute(statement.sql, *columns)
    return tag


async def execute_rows(connection: asyncpg.Connection, statement: Statement, rows: Iterable[Sequence[Any]]) -> str:
    """Execute a statement once for all ``rows``, whose fields are its parameters; nothing happens without rows."""
    columns = list(zip(*rows, strict=True))
    return await execute_columns(connection, statement, columns) if columns else ""
