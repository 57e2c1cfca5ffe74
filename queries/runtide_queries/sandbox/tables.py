"""A result as rows, for JSON."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Column names, their Arrow types, and the rows."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def read_table(arrow: bytes) -> Table:
    """Return the rows of an Arrow stream that came from the child; its structure is checked first."""
    # Imported late: pyarrow's memory is only paid by a gateway that is asked for SQL.
    from pyarrow import ipc

    table = ipc.open_stream(arrow).read_all()
    table.validate(full=True)
    columns = [column.to_pylist() for column in table.columns]
    return Table(
        columns=tuple(table.schema.names),
        types=tuple(str(field.type) for field in table.schema),
        rows=tuple(zip(*columns, strict=True)),
    )
