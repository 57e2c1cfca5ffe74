"""The rows of the entity tables that one batch touches: read once, changed in memory, merged set-based."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.inline import MOST_INLINE, inlined
from runtide_consumers.duckdb.statements import load_statements
from runtide_schemas.errors import FatalError, PoisonEvent

_FEW_UPDATES = 4
Row = dict[str, Any]
Key = tuple[Any, ...]

KEYS: dict[str, tuple[str, ...]] = {
    "runs": ("run_id",),
    "params": ("run_id", "key"),
    "tags": ("run_id", "key"),
    "artifacts": ("run_id", "path"),
    "claimed_models": ("run_id", "model_id"),
    "claimed_model_params": ("run_id", "model_id", "key"),
    "claimed_model_tags": ("run_id", "model_id", "key"),
    "run_models": ("run_id", "model_id", "role"),
    "writers": ("run_id", "writer_id"),
    "experiments": ("experiment_id",),
    "experiment_requests": ("request_id",),
    "registered_models": ("name",),
    "model_versions": ("name", "version"),
    "model_aliases": ("name", "alias"),
    "deployments": ("deployment_id",),
    "quarantine": ("topic", "partition", "record_offset"),
}
"""The entity tables and what identifies a row of each."""


@dataclass(slots=True)
class TableRows:
    """Rows of one table by key. What was put or removed is written; what was only loaded is not."""

    name: str
    rows: dict[Key, Row] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)
    removed: set[Key] = field(default_factory=set)

    def get(self, *key: Any) -> Row | None:
        """Return the row of that key, to be changed only through ``put``."""
        return self.rows.get(key)

    def put(self, row: Row) -> None:
        """Set the row of its key."""
        key = tuple(row[column] for column in KEYS[self.name])
        self.rows[key] = row
        self.changed.add(key)
        self.removed.discard(key)

    def remove(self, *key: Any) -> None:
        """Delete the row of that key, in the table too."""
        self.rows.pop(key, None)
        self.changed.discard(key)
        self.removed.add(key)

    def change(self, *key: Any, **columns: Any) -> None:
        """Set columns of the row of that key, when there is one."""
        row = self.rows.get(key)
        if row is not None:
            self.put(row | columns)

    def where(self, **columns: Any) -> list[Row]:
        """Return the rows with these values, in the order of their keys."""
        wanted = columns.items()
        return [row for _, row in sorted(self.rows.items()) if wanted <= row.items()]


class EntityRows:
    """The working set of one batch, over all entity tables."""

    def __init__(self) -> None:
        """Nothing is loaded; ``load`` what has to be known before it is changed."""
        self._tables = {name: TableRows(name) for name in KEYS}

    def __getitem__(self, table: str) -> TableRows:
        """Return the rows of a table."""
        return self._tables[table]

    def load(self, connection: Connection, table: str, scopes: Iterable[str]) -> None:
        """Read the rows whose scope (run, model name, ...; see load.sql) is one of ``scopes``."""
        wanted = sorted(set(scopes))
        if not wanted:
            return
        found = connection.execute(load_statements("load.sql")[table], {"scopes": wanted})
        columns = [column[0] for column in found.description]
        for values in found.fetchall():
            row = dict(zip(columns, values, strict=True))
            self._tables[table].rows[tuple(row[column] for column in KEYS[table])] = row

    def write(self, connection: Connection) -> None:
        """Merge what was put and delete what was removed, table by table."""
        for table in self._tables.values():
            if table.removed:
                keys = [dict(zip(KEYS[table.name], key, strict=True)) for key in table.removed]
                execute_with(connection, f"delete_{table.name}", "batch_keys", pa.Table.from_pylist(keys))
            if table.changed:
                rows = [table.rows[key] for key in table.changed]
                execute_with(connection, table.name, "batch_rows", arrow_rows(connection, table.name, rows))


def arrow_rows(connection: Connection, table: str, rows: list[Row]) -> pa.Table:
    """Return rows as an Arrow table with exactly the columns and types of the DuckDB table.

    Raises:
        PoisonEvent: a value does not fit its column.
    """
    try:
        return pa.Table.from_pylist(rows, schema=_arrow_schema(connection, table))
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError) as error:
        raise PoisonEvent(f"a row of {table} cannot be stored: {type(error).__name__}: {error}") from error


def write_known(connection: Connection, table: str, rows: Iterable[tuple[Row, bool]]) -> None:
    """Write rows of which it is known whether the table has them. A few that it has cost less one by one than a merge.

    Raises:
        FatalError: the table lacks one that it was known to have.
    """
    merged: list[Row] = []
    known: list[Row] = []
    for row, is_known in rows:
        (known if is_known else merged).append(row)
    if len(known) > _FEW_UPDATES:
        merged, known = merged + known, []
    for row in known:
        [(updated,)] = connection.execute(load_statements("merge.sql")[f"update_{table}"], row).fetchall()
        if updated != 1:
            raise FatalError(f"{updated} rows of {table} are {row}, where one was written before; rebuild this file")
    if merged:
        execute_with(connection, table, "batch_rows", arrow_rows(connection, table, merged))


def execute_with(connection: Connection, statement: str, view: str, table: pa.Table) -> None:
    """Run a statement of merge.sql while ``view`` names the Arrow table."""
    sql = load_statements("merge.sql")[statement]
    if 0 < table.num_rows <= MOST_INLINE:
        connection.execute(*inlined(sql, view, table))
    else:
        run_over(connection, sql, **{view: table})


def run_over(connection: Connection, sql: str, **tables: pa.Table) -> None:
    """Run a statement in which Arrow tables can be named as if they were tables of the file.

    Raises:
        duckdb.Error: the statement failed.
    """
    for name, table in tables.items():
        connection.register(name, table)
    try:
        connection.execute(sql)
    except BaseException:
        # The transaction is aborted: taking the names back fails too, and must not hide why.
        with contextlib.suppress(duckdb.Error):
            _unregister(connection, tables)
        raise
    _unregister(connection, tables)


def _unregister(connection: Connection, names: Iterable[str]) -> None:
    for name in names:
        connection.unregister(name)


_schemas: dict[str, pa.Schema] = {}


def _arrow_schema(connection: Connection, table: str) -> pa.Schema:
    if table not in _schemas:
        _schemas[table] = connection.table(table).limit(0).to_arrow_table().schema
    return _schemas[table]
