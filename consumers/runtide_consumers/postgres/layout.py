"""The schema of the projection in PostgreSQL: made when missing, checked when there."""

import asyncpg

from runtide_consumers.postgres.statements import script
from runtide_schemas.errors import FatalError

LAYOUT_VERSION = 4
_LOCK = 0x72756E74  # "runt": two projectors that start at once make the schema one after the other


async def prepare_layout(connection: asyncpg.Connection, schema: str) -> None:
    """Create schema and tables when missing; check their version; let ``sql_reader`` read when there is such a role.

    Raises:
        FatalError: the database is not in UTF-8, or its layout is of another version.
    """
    encoding = await connection.fetchval("show server_encoding")
    if encoding != "UTF8":
        raise FatalError(f"the database is encoded in {encoding}; create one with ENCODING 'UTF8'")
    await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
    # Repeating the script would lock every table against a projector that is at work.
    if not await connection.fetchval("select to_regclass('projection_state')"):
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(script("schema"))
        await connection.execute("insert into projection_state values ('layout', $1)", LAYOUT_VERSION)
    await _check_version(connection, schema)
    await _grant(connection, schema)


async def _check_version(connection: asyncpg.Connection, schema: str) -> None:
    found = await connection.fetchval("select value from projection_state where name = 'layout'")
    if found != LAYOUT_VERSION:
        raise FatalError(
            f"schema {schema} has layout version {found}, this program writes {LAYOUT_VERSION}: "
            "run `runtide rebuild postgres`, which folds the log into a new schema beside it and swaps, or start this program "
            "with --upgrade, which does so first"
        )


async def _grant(connection: asyncpg.Connection, schema: str) -> None:
    missing = "select not has_schema_privilege(rolname, $1, 'usage') from pg_roles where rolname = 'sql_reader'"
    if await connection.fetchval(missing, schema):
        await connection.execute(f'grant usage on schema "{schema}" to sql_reader')
        await connection.execute(f'grant select on all tables in schema "{schema}" to sql_reader')
