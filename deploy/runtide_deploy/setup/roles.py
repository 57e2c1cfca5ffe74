"""Roles and database in a PostgreSQL that runs already, by the very statements that ``runtide up`` makes its own with."""

import asyncio
import logging
from collections.abc import Iterator
from importlib import resources
from string import Template
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from runtide_deploy.standalone.postgres import DATABASE, OWNER, SQL_READER
from runtide_schemas.errors import FatalError, TransientError

log = logging.getLogger(__name__)

_CONNECT_S = 10.0
_IS_THERE = (asyncpg.DuplicateObjectError, asyncpg.DuplicateDatabaseError)
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
)


async def prepare_database(dsn: str, owner_password: str, reader_password: str) -> None:
    """Create what is missing of the roles ``runtide`` and ``sql_reader`` and the database, and set both passwords.

    May be repeated: what is there stays, and passwords become the ones given.

    Raises:
        TransientError: the server is away.
        FatalError: it refuses; the message says what.
    """
    passwords = {"owner_password": _literal(owner_password), "reader_password": _literal(reader_password)}
    try:
        await _execute(dsn, _statements("postgres_roles", passwords))
        await _execute(dsn, (f"ALTER ROLE {OWNER} PASSWORD '{passwords['owner_password']}'",))
        await _execute(dsn, (f"ALTER ROLE {SQL_READER} PASSWORD '{passwords['reader_password']}'",))
        await _execute(_for_database(dsn), _statements("postgres_database", {}))
    except _AWAY as error:
        raise TransientError(f"PostgreSQL does not answer: {type(error).__name__} {error}") from error
    except asyncpg.PostgresError as error:
        raise FatalError(f"PostgreSQL refuses to be set up: {error}. RUNTIDE_SETUP_DSN needs a superuser") from error


async def _execute(dsn: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_S, command_timeout=60)
    try:
        for statement in statements:
            try:
                await connection.execute(statement)
            except _IS_THERE as error:
                log.debug("%s", error)
    finally:
        await asyncio.wait_for(connection.close(), _CONNECT_S)


def _statements(name: str, values: dict[str, str]) -> tuple[str, ...]:
    """The file's statements: one ends at a semicolon before an empty line, as in PostgreSQL's single-user mode."""
    text = (resources.files("runtide_deploy.standalone") / "sql" / f"{name}.sql").read_text()
    return tuple(_filled(text, values))


def _filled(text: str, values: dict[str, str]) -> Iterator[str]:
    for statement in text.split(";\n\n"):
        lines = [line for line in statement.splitlines() if line and not line.startswith("--")]
        if lines:
            yield Template("\n".join(lines)).substitute(values).rstrip(";")


def _literal(password: str) -> str:
    """As it stands between quotes: CREATE ROLE takes no parameters."""
    if "\0" in password:
        raise FatalError("a password must not hold a NUL byte")
    return password.replace("'", "''")


def _for_database(dsn: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{DATABASE}"))
