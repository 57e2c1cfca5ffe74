"""The layout of a file that holds a fold of an operator's own."""

import asyncio
import inspect
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from runtide_consumers.duckdb.custom import DuckdbFold, NewEvents
from runtide_consumers.duckdb.database_file import Connection, FileFormat
from runtide_consumers.duckdb.entity_digests import row_digests
from runtide_consumers.duckdb.fold import fold_quarantine
from runtide_consumers.duckdb.log_state import LogState
from runtide_consumers.duckdb.rows import EntityRows
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.poison import last_line
from runtide_consumers.projection import Batch
from runtide_consumers.rebuild.code import number_of_code
from runtide_consumers.rebuild.comparison import EntityDigests, Share
from runtide_schemas import topics
from runtide_schemas.errors import FatalError, FoldFailed, RuntideError
from runtide_schemas.events.runs import WriterClosed

_OF_THE_LOG = (
    Share("quarantine", "records without an entity in", "topic", "entity = ''"),
    Share("writer_positions", "run", "run_id", "run_id <> ''"),
    Share("writer_gaps", "run", "run_id", "run_id <> ''"),
    Share("writer_positions", "writer", "writer_id", "run_id = ''"),
    Share("writer_gaps", "writer", "writer_id", "run_id = ''"),
)
_BEGUN_OR_ENDED = ("within a transaction", "no transaction is active")
LOG_TABLES = frozenset(
    {"format", "projection_offsets", "projection_state", "writer_positions", "writer_gaps", "quarantine"}
)
"""Tables that every file has; names that a fold cannot give its own."""


class FoldLayout:
    """Implements ``Layout`` for a ``DuckdbFold``."""

    def __init__(self, name: str, fold: DuckdbFold) -> None:
        """``fold`` was checked by ``check_fold``."""
        kind = type(fold)
        self._fold = fold
        self._where = f"{kind.__module__}.{kind.__qualname__}"
        self.format = FileFormat(name, kind.layout_version, self._create)
        self.topics = kind.topics
        self.shares: Sequence[Share] = (
            *(Share(_quoted(table), key, _quoted(key)) for table, key in kind.tables.items()),
            *_OF_THE_LOG,
        )
        self.code: Sequence[str] = (kind.__module__.partition(".")[0],)

    def load(self, connection: Connection) -> LogState:
        """Read the state from the file."""
        return LogState.load(connection)

    def fold(self, connection: Connection, state: LogState, batch: Batch) -> LogState:
        """Leave out what was folded before, have the rest folded, and write where the log was read to.

        Raises:
            FoldFailed: the fold raised what is no error of the store, or went on after one.
            FatalError: it began or ended a transaction, or DuckDB cannot read its SQL.
        """
        state.check_begin(batch)
        state.writers.load(connection, batch.events)
        events, last_request_offset = state.new_events(batch.events)
        if events:
            self._fold_in_transaction(connection, NewEvents(events))
        for event in events:
            if isinstance(event.body, WriterClosed):
                state.writers.close(event.body)
        rows = EntityRows()
        fold_quarantine(rows, batch)
        rows.write(connection)
        return state.write(connection, batch, last_request_offset)

    def digests(self, connection: Connection) -> EntityDigests:
        """Return digests of the fold's tables."""
        return FoldDigests(connection)

    def _fold_in_transaction(self, connection: Connection, new: NewEvents) -> None:
        before = _transaction(connection)
        try:
            self._fold.fold(connection, new)
            after = _transaction(connection)
        except duckdb.TransactionException as error:
            raise self._misused(error) from error
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise FatalError(
                f"{self._where}.fold has SQL that does not fit the file's tables: {last_line(error)}. If `create` has changed, "
                f"raise `layout_version` and run `runtide rebuild {self.format.store}`; else mend the SQL"
            ) from error
        except (MemoryError, duckdb.Error):
            raise
        except Exception as error:  # of somebody else's code: whatever it is, an event has brought it about
            raise FoldFailed(f"{self._where}.fold failed: {last_line(error)}") from error
        if after != before:
            raise FatalError(
                f"{self._where}.fold ended the transaction that it runs in (COMMIT or ROLLBACK), so that its rows and the "
                f"position in the log were written apart. Take that out, and run `runtide rebuild {self.format.store}`"
            )

    def _misused(self, error: duckdb.TransactionException) -> RuntideError:
        """Return what it means that DuckDB refuses a statement of the fold, or the one after it, for its transaction."""
        if any(phrase in str(error) for phrase in _BEGUN_OR_ENDED):
            return FatalError(
                f"{self._where}.fold begins or ends a transaction ({last_line(error)}); it runs in one already. Take that out"
            )
        return FoldFailed(
            f"{self._where}.fold failed: it went on after an error of DuckDB that it caught, which has spoiled the "
            f"transaction ({last_line(error)}). Let such an error be raised: it is said here then"
        )

    def _create(self, connection: Connection) -> None:
        try:
            self._fold.create(connection)
        except Exception as error:
            raise FatalError(f"{self._where}.create failed: {last_line(error)}") from error
        columns: defaultdict[str, set[str]] = defaultdict(set)
        for table, column in connection.execute(load_statements("schema.sql")["list_columns"]).fetchall():
            columns[table].add(column)
        found = {name for (name,) in connection.execute(load_statements("schema.sql")["list_tables"]).fetchall()}
        tables = type(self._fold).tables
        if found - LOG_TABLES != set(tables):
            raise FatalError(
                f"{self._where}.create makes the tables {sorted(found - LOG_TABLES)}, and its `tables` names "
                f"{sorted(tables)}: name each that it makes, with the column that says what a row is about"
            )
        if wrong := {table: key for table, key in tables.items() if key not in columns[table]}:
            raise FatalError(f"{self._where}.tables names columns that these tables have not: {wrong}")
        connection.execute(load_statements("merge.sql")["made_by_code"], {"value": number_of_code(self.code)})


class FoldDigests:
    """Implements ``EntityDigests`` over a connection that nobody writes through."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Return the columns of every table, quoted as the shares' are where they are the fold's."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for table, column in self._connection.execute(load_statements("schema.sql")["list_columns"]).fetchall():
            quote = str if table in LOG_TABLES else _quoted
            found[quote(table)].append(quote(column))
        return {table: tuple(columns) for table, columns in found.items()}

    async def parked(self) -> frozenset[str]:
        """Return the entities that have parked records."""
        rows = self._connection.execute(load_statements("load.sql")["blocked_entities"]).fetchall()
        return frozenset(entity for (entity,) in rows)

    async def digests(self, share: Share, columns: Sequence[str]) -> Mapping[str, str]:
        """Return a digest per entity: of values of any type, by their exact text."""
        found = await asyncio.to_thread(row_digests, self._connection, share, columns, _text)
        return {_entity(entity): digest for entity, digest in found.items()}


def check_fold(kind: type[DuckdbFold]) -> None:
    """Check that a class is a whole fold.

    Raises:
        FatalError: it is not; the message says what it lacks.
    """
    where = f"{kind.__module__}.{kind.__qualname__}"
    if missing := sorted(kind.__abstractmethods__):
        raise FatalError(f"{where} lacks the method{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if missing := [name for name in ("topics", "tables") if not hasattr(kind, name)]:
        raise FatalError(f"{where} lacks {' and '.join(missing)}; see DuckdbFold")
    if not isinstance(kind.tables, Mapping):
        raise FatalError(
            f"{where}.tables is {kind.tables!r}: make it a mapping of each table to the column that says what a row is about"
        )
    try:
        inspect.signature(kind).bind()
    except (TypeError, ValueError) as error:
        raise FatalError(f"{where} has to be made without arguments: {error}") from error
    strange = set(kind.topics) - (set(topics.TOPICS) - {topics.QUARANTINE})
    if strange or not kind.topics:
        raise FatalError(f"{where}.topics has {sorted(strange) or 'nothing'}: name some of runtide_schemas.topics")
    if taken := LOG_TABLES & {table.lower() for table in kind.tables}:
        raise FatalError(f"{where} cannot name its tables {sorted(taken)}: every file has tables of these names")
    if not isinstance(kind.layout_version, int) or kind.layout_version < 1:
        raise FatalError(f"{where}.layout_version is {kind.layout_version!r}; versions are 1, 2, ...")


def _transaction(connection: Connection) -> int:
    [(number,)] = connection.execute(load_statements("schema.sql")["transaction"]).fetchall()
    return int(number)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _entity(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=_text)


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
