"""A few rows inside a statement, as parameters: naming an Arrow table to DuckDB and taking the name back costs more than they do."""

from typing import Any

import pyarrow as pa

MOST_INLINE = 16
_TYPES = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.binary(): "BLOB",
    pa.list_(pa.string()): "VARCHAR[]",
}


def inlined(sql: str, view: str, table: pa.Table) -> tuple[str, list[Any]]:
    """Return the statement with the table's rows in place of ``view``, and their values, which are its parameters."""
    row = ", ".join(f"?::{_type_of(column)}" for column in table.schema)
    rows = ", ".join([f"({row})"] * table.num_rows)
    names = ", ".join(f'"{name}"' for name in table.column_names)
    values = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return f"WITH {view}({names}) AS (VALUES {rows})\n{sql}", [value for row in values for value in row]


def _type_of(column: pa.Field) -> str:
    # DuckDB's own list type names its items otherwise than pyarrow does by itself.
    kind = pa.list_(column.type.value_type) if pa.types.is_list(column.type) else column.type
    return _TYPES[kind]
