"""A consistent copy of an SQLite database that others may be writing, made without changing anything beside it.

It is copied in one read transaction: a long import would otherwise keep MLflow from writing, and reading without locks
(``immutable``) gives pages of transactions that are half written, or are never committed.
"""

import os
import shlex
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

BUSY_TIMEOUT_S = 30.0
_RECOVER = "import sqlite3; sqlite3.connect({path!r}).execute('SELECT count(*) FROM sqlite_master')"
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_LOGS = ("-journal", "-wal")


def snapshot(path: Path) -> sqlite3.Connection:
    """Return a connection to a copy of a database as it was last committed; the copy goes with the connection.

    Raises:
        InvalidRequest: it is no database, or was left in the middle of a transaction.
        TransientError: somebody keeps it locked.
        FatalError: there is no room for the copy.
    """
    try:
        with closing(_read_only(path)) as source:
            return _copy(source, path)
    except sqlite3.Error as error:
        raise _refusal(path, error) from error


def _read_only(path: Path) -> sqlite3.Connection:
    source = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    try:
        source.execute("PRAGMA trusted_schema = OFF")
        # Takes the lock that the copy needs, and waits for it only so long: ``backup`` itself would wait for ever.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        source.close()
        raise
    return source


def _copy(source: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Copy to a file that has no name any more when this returns, so that even a kill leaves nothing."""
    with tempfile.TemporaryDirectory(prefix="runtide-import-") as folder:
        copy = sqlite3.connect(Path(folder) / "copy.db", isolation_level=None)
        try:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy)
            # A copy of a database with a write-ahead log would want one beside itself.
            copy.execute("PRAGMA journal_mode = MEMORY")
            copy.execute("PRAGMA trusted_schema = OFF")
            copy.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            copy.close()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise FatalError(
                    f"no room to copy {str(path)!r} to {tempfile.gettempdir()}; set TMPDIR to a directory with "
                    f"{path.stat().st_size:,} bytes free"
                ) from error
            raise
        return copy


def _refusal(path: Path, error: sqlite3.Error) -> InvalidRequest | TransientError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
        return TransientError(
            f"cannot read {str(path)!r}: another process writes it for longer than {BUSY_TIMEOUT_S:g} s; import again later"
        )
    logs = [log for end in _LOGS if (log := path.with_name(path.name + end)).exists() and log.stat().st_size]
    if not os.access(path.parent, os.W_OK):
        files = " and ".join(file.name for file in (path, *logs))
        return InvalidRequest(
            f"cannot read {str(path)!r}, in a folder that cannot be written: {error}. SQLite needs files of its own beside "
            f"a database with a write-ahead log: import a copy, made while nobody writes it, of {files}"
        )
    if logs:
        program = _RECOVER.format(path=str(path.absolute()))
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"
        return InvalidRequest(
            f"cannot read {str(path)!r} ({error}): whoever wrote it was killed and left half a transaction in "
            f"{logs[0].name}. That may be changed by SQLite only; recover it first with: {command}"
        )
    return InvalidRequest(f"cannot read {str(path)!r}: {error}. Is it an SQLite database?")
