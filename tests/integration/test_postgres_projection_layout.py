"""The schema: what the statements and the fold take for granted about it is so, and another version is refused."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.layout import LAYOUT_VERSION
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rows import TABLES
from runtide_consumers.postgres.statements import statements
from runtide_deploy.standalone.postgres import SQL_READER
from runtide_schemas.errors import FatalError, Fenced
from tests.event_log import EventLog
from tests.integration.postgres_stack import points
from tests.postgres import PostgresServer

FILES = ("positions", "rows", "merges", "models")


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database whose layout was made."""
    projection = PostgresProjection(postgres_dsn)
    await projection.open()
    await projection.close()
    connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": "runtide"})
    yield connection
    await connection.close()


async def columns_of(connection: asyncpg.Connection, table: str) -> list[str]:
    """Return a table's columns in their order."""
    query = (
        "select column_name from information_schema.columns where table_schema = 'runtide' and table_name = $1 "
        "order by ordinal_position"
    )
    return [row[0] for row in await connection.fetch(query, table)]


@pytest.mark.parametrize("file", FILES)
async def test_every_statement_prepares(connection: asyncpg.Connection, file: str) -> None:
    for statement in statements(file).values():
        prepared = await connection.prepare(statement.sql)
        assert len(prepared.get_parameters()) == len(statement.parameters), statement.name


async def test_rows_are_written_in_the_order_of_the_columns(connection: asyncpg.Connection) -> None:
    for name, table in TABLES.items():
        assert list(table.columns) == await columns_of(connection, name)
        assert statements("rows")[f"save_{name}"].parameters == table.columns
        assert statements("rows")[f"load_{name}"].parameters == table.key


async def test_merges_are_written_in_the_order_of_the_columns(connection: asyncpg.Connection) -> None:
    for statement in statements("merges").values():
        if f"insert into {statement.name}\nselect * from unnest" in statement.sql:
            assert list(statement.parameters) == await columns_of(connection, statement.name)
    assert list(statements("merges")["metric_summaries"].parameters) == await columns_of(connection, "metric_summaries")


async def test_the_digest_covers_every_table_that_is_folded(connection: asyncpg.Connection) -> None:
    tables = {row[0] for row in await connection.fetch("select tablename from pg_tables where schemaname = 'runtide'")}
    assert set(await digest(connection)) == tables - {"projection_state"}


async def test_the_sql_reader_may_read_and_nothing_else(
    connection: asyncpg.Connection, postgres_server: PostgresServer
) -> None:
    database = await connection.fetchval("select current_database()")
    reader = await asyncpg.connect(postgres_server.dsn(database, SQL_READER))
    try:
        assert await reader.fetchval("select name from runtide.experiments") == "Default"
        await reader.execute("set default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("delete from runtide.experiments")
    finally:
        await reader.close()


async def test_another_layout_version_is_refused(connection: asyncpg.Connection, postgres_dsn: str) -> None:
    await connection.execute("update projection_state set value = 99 where name = 'layout'")
    with pytest.raises(FatalError, match=f"layout version 99, this program writes {LAYOUT_VERSION}"):
        await PostgresProjection(postgres_dsn).open()


def test_a_schema_name_that_is_no_name_is_refused() -> None:
    with pytest.raises(FatalError, match="lowercase letters"):
        PostgresProjection("postgresql://", 'x"; drop')


async def test_who_opens_last_goes_on(postgres_dsn: str) -> None:
    log = EventLog()
    log.add(points("a" * 32, 0, 10))
    earlier, later = PostgresProjection(postgres_dsn), PostgresProjection(postgres_dsn)
    await earlier.open()
    await later.open()
    with pytest.raises(Fenced, match="taken over"):
        await earlier.apply(log.everything())
    await later.apply(log.everything())
    assert await later.positions() == log.everything().positions
    await earlier.close()
    await later.close()
