"""Tables as artifacts: JSON in pandas' split form, as MLflow's ``log_table`` stores them, or Parquet."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtide_schemas.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain values under named columns."""

    columns: tuple[str, ...]
    rows: list[list[Any]]

    def with_rows_of(self, other: "Table") -> "Table":
        """Return this table and another's rows below; a column that one lacks is None there."""
        columns = (*self.columns, *(name for name in other.columns if name not in self.columns))
        return Table(columns, [*self._as(columns), *other._as(columns)])

    def _as(self, columns: tuple[str, ...]) -> list[list[Any]]:
        if columns == self.columns:
            return self.rows
        places = [self.columns.index(name) if name in self.columns else None for name in columns]
        return [[None if place is None else row[place] for place in places] for row in self.rows]


def as_table(data: Any) -> Table:
    """Return a DataFrame, or a mapping of names to columns (or to values, which make one row), as a table.

    Raises:
        InvalidRequest: it is neither, or its columns are of different lengths.
    """
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        names = [str(name) for name in data.columns]
        if len(set(names)) < len(names):
            raise InvalidRequest(f"Columns of a table must have different names, got {names}")
        data = {name: data[column].tolist() for name, column in zip(names, data.columns, strict=True)}
    if not isinstance(data, Mapping) or not data:
        raise InvalidRequest(
            f"A table is a pandas DataFrame or a mapping of column names to values, got {type(data).__name__}"
        )
    columns = {str(name): _column(values) for name, values in data.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidRequest(f"Columns of a table must be of one length, got {lengths}")
    return Table(tuple(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def to_json(table: Table) -> bytes:
    """Return a table in pandas' split form; NaN and infinities become null, as pandas has it."""
    rows = [[_finite(value) for value in row] for row in table.rows]
    return json.dumps({"columns": table.columns, "data": rows}, ensure_ascii=False, default=str).encode()


def from_json(data: bytes, path: str) -> Table:
    """Return a table that ``to_json``, pandas or MLflow wrote.

    Raises:
        InvalidRequest: it is no table.
    """
    try:
        found = json.loads(data)
        return Table(tuple(found["columns"]), [list(row) for row in found["data"]])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path!r} holds no table to append to ({error!r}); log to another file") from error


def to_parquet(table: Table) -> bytes:
    """Return a table as Parquet; needs pyarrow."""
    pa, parquet = _arrow()
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    try:
        arrays = {name: list(values) for name, values in zip(table.columns, columns, strict=True)}
        buffer = io.BytesIO()
        parquet.write_table(pa.table(arrays), buffer, compression="zstd")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidRequest(f"cannot store the table as Parquet: {error}; log it as .json") from error
    return buffer.getvalue()


def from_parquet(data: bytes, path: str) -> Table:
    """Return the table of a Parquet file."""
    pa, parquet = _arrow()
    try:
        found = parquet.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        raise InvalidRequest(f"{path!r} holds no table to append to ({error}); log to another file") from error
    columns = [column.to_pylist() for column in found.columns]
    return Table(tuple(found.column_names), [list(row) for row in zip(*columns, strict=True)])


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidRequest("storing a table as Parquet needs pyarrow; install it, or log a .json file") from error
    return pa, parquet


def _column(values: Any) -> list[Any]:
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return [_plain(value) for value in values]
    return [_plain(values)]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return {key: _finite(one) for key, one in value.items()} if isinstance(value, dict) else value
