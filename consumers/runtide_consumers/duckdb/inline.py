"""A few rows inside a statement, as parameters: naming an Arrow table to DuckDB and taking the name back costs more than they do.

A parameter is a whole column: what DuckDB does for each parameter would soon be most of the work, and the statement stays the
same whatever the number of rows.
"""

from typing import Any

import pyarrow as pa

MOST_INLINE = 40
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
    """Return the statement with the table's rows in place of ``view``, and their columns, which are its parameters."""
    columns = ", ".join(f'unnest(?::{_type_of(column)}[]) AS "{column.name}"' for column in table.schema)
    return f"WITH {view} AS (SELECT {columns})\n{sql}", [column.to_pylist() for column in table.columns]


def _type_of(column: pa.Field) -> str:
    # DuckDB's own list type names its items otherwise than pyarrow does by itself.
    kind = pa.list_(column.type.value_type) if pa.types.is_list(column.type) else column.type
    return _TYPES[kind]
