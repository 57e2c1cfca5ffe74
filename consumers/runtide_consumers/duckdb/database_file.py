"""Opening the DuckDB file: made when missing, set aside when damaged, refused when of another format.

The log is the truth and the file a fold of it, so a damaged file is renamed, never repaired and never deleted.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from runtide_consumers.duckdb.errors import is_damage
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.statements import load_statements
from runtide_schemas.errors import FatalError

FORMAT_VERSION = 3
Connection = Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """What a file is made as, and recognised by.

    Attributes:
        store: name of the store, as ``runtide rebuild`` takes it.
        version: version of its tables.
        create: makes its own tables in an empty file, in the transaction that is open; those of the log are there.
    """

    store: str
    version: int
    create: Callable[[Connection], None]


def _create_history(connection: Connection) -> None:
    connection.execute(load_statements("schema.sql")["create_schema"])


HISTORY_FORMAT = FileFormat("duckdb", FORMAT_VERSION, _create_history)


def open_database(
    settings: DuckdbSettings, path: Path | None = None, file_format: FileFormat = HISTORY_FORMAT
) -> Connection:
    """Return the connection that owns a file, its tables in place; the file of the settings unless another is given.

    Raises:
        FatalError: another process has the file, it is of another format, or no file of ours.
    """
    path = path or settings.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if _mark(path).exists():
        set_aside(path, "it was found damaged while in use")
    try:
        connection = connect(settings, path)
    except duckdb.Error as error:
        if not is_damage(error):
            raise FatalError(_refusal(path, error)) from error
        set_aside(path, str(error))
        connection = connect(settings, path)
    try:
        _ensure_format(connection, path, file_format)
    except BaseException:
        connection.close()
        raise
    return connection


def open_existing(settings: DuckdbSettings, path: Path, file_format: FileFormat = HISTORY_FORMAT) -> Connection:
    """Return the connection that owns a file that has to be there and whole.

    Raises:
        FatalError: it is not, another process has it, or it is of another format.
    """
    try:
        connection = connect(settings, path)
    except duckdb.Error as error:
        raise FatalError(_refusal(path, error)) from error
    try:
        if not connection.execute(load_statements("schema.sql")["list_tables"]).fetchall():
            raise FatalError(f"{path} is empty")
        _ensure_format(connection, path, file_format)
    except BaseException:
        connection.close()
        raise
    return connection


def read_format(connection: Connection) -> int:
    """Return the format version of a file of ours."""
    [(version,)] = connection.execute(load_statements("schema.sql")["get_format"]).fetchall()
    return int(version)


def mark_damaged(path: Path) -> None:
    """Make the next ``open_database`` set the file aside: reading it has shown that it is damaged."""
    _mark(path).touch()


def set_aside(path: Path, reason: str) -> Path:
    """Rename the file and its write-ahead log out of the way and return the file's new path."""
    suffix = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{time.time_ns() % 1_000_000_000:09d}"
    aside = path.with_name(f"{path.name}.damaged-{suffix}")
    for source, target in ((path, aside), (_wal(path), _wal(aside))):
        if source.exists():
            source.rename(target)
    _mark(path).unlink(missing_ok=True)
    log.error("set %s aside as %s and rebuild it from the log: %s", path, aside.name, reason)
    return aside


def connect(settings: DuckdbSettings, path: Path, *, read_only: bool = False) -> Connection:
    """Return a connection to a file as it is, whatever its format.

    Raises:
        duckdb.Error: it cannot be opened.
    """
    return duckdb.connect(
        str(path),
        read_only=read_only,
        config={
            "memory_limit": settings.memory_limit,
            "threads": settings.threads,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "lock_configuration": True,
        },
    )


def _ensure_format(connection: Connection, path: Path, file_format: FileFormat) -> None:
    statements = load_statements("schema.sql")
    tables = {row[0] for row in connection.execute(statements["list_tables"]).fetchall()}
    if not tables:
        _create(connection, statements, file_format)
    elif "format" not in tables:
        raise FatalError(
            f"{path} is a DuckDB file with other tables ({', '.join(sorted(tables)[:5])}); give --file another path"
        )
    version = read_format(connection)
    if version != file_format.version:
        raise FatalError(
            f"{path} has format version {version}, this program reads and writes version {file_format.version}. Run "
            f"`runtide rebuild {file_format.store}`, which folds a new one beside it and swaps, or start this program with "
            "--upgrade, which does so first; or run the version that made it"
        )


def _create(connection: Connection, statements: Any, file_format: FileFormat) -> None:
    connection.execute("BEGIN")
    connection.execute(statements["create_log_tables"])
    file_format.create(connection)
    connection.execute(statements["set_format"], {"version": file_format.version})
    connection.execute("COMMIT")


def _refusal(path: Path, error: duckdb.Error) -> str:
    if "lock" in str(error).lower():
        return f"{path} is in use by another process, and only one may own it: {error}. Stop that one first"
    return f"cannot open {path}: {error}"


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def _wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
