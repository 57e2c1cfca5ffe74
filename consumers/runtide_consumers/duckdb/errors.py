"""The seam where DuckDB's exceptions become ours, named for what the caller must do."""

import re

import duckdb

from runtide_schemas.errors import FatalError, PoisonEvent, RuntideError, TransientError

_DAMAGE = (
    "not a valid duckdb database file",
    "corrupt",
    "checksum",
    "could not read enough bytes",
    "failure while replaying wal",
    "deserialize",
)
_OF_THE_FILE = (duckdb.IOException, duckdb.InternalException, duckdb.SerializationException, duckdb.FatalException)
"""What DuckDB raises of a file's bytes; of statements and of data it raises others, whose words are a fold's or a reader's."""
_LOCKED = "could not set lock"
_QUOTED = re.compile(r"""(["'])(?:(?!\1).)*\1|\S*/\S*""")
"""Names in DuckDB's messages, the file's own path above all: a folder may be called corrupt without being so."""
_DATA = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)
_WAIT = (duckdb.TransactionException, duckdb.OutOfMemoryException, duckdb.IOException)


class DamagedFile(FatalError):
    """The DuckDB file cannot be read any more; the next start sets it aside and rebuilds it from the log."""


def is_damage(error: BaseException) -> bool:
    """Return whether DuckDB's error says that the file's bytes are wrong (rather than away, locked or too new)."""
    text = _QUOTED.sub("", str(error)).lower()
    # A wrong checksum of a block has no class of its own: DuckDB raises the base of all.
    of_the_file = isinstance(error, _OF_THE_FILE) or type(error) is duckdb.Error
    if not of_the_file or _LOCKED in text:
        return False
    return any(phrase in text for phrase in _DAMAGE)


def is_locked(error: duckdb.Error) -> bool:
    """Return whether DuckDB's error says that another process has the file open."""
    return _LOCKED in _QUOTED.sub("", str(error)).lower()


def translate(error: duckdb.Error) -> RuntideError:
    """Return our error for one that DuckDB raised while a batch was applied."""
    text = f"{type(error).__name__}: {error}"
    if is_damage(error):
        return DamagedFile(f"the DuckDB file is damaged ({text}); restart: it is set aside and rebuilt from the log")
    if isinstance(error, _WAIT):
        return TransientError(f"DuckDB could not write: {text}")
    if isinstance(error, _DATA):
        return PoisonEvent(f"DuckDB refused the data: {text}")
    return FatalError(f"DuckDB failed: {text}")
