"""The columns of a Neptune export, in batches: points by the million, so as arrays and not as objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide.importing.records import LeftOut
from runtide_schemas.errors import InvalidRequest

UNIT = 1_000_000
"""Steps are decimals with six digits behind the point."""
_ROWS = 65_536
_COLUMNS = (
    "project_id",
    "run_id",
    "attribute_path",
    "attribute_type",
    "step",
    "timestamp",
    "int_value",
    "float_value",
    "string_value",
    "bool_value",
    "datetime_value",
    "string_set_value",
    "file_value",
)


class Batch:
    """Some rows of a part."""

    def __init__(self, batch: Any) -> None:
        self._columns = {name: batch.column(name) for name in _COLUMNS}

    def groups(self) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        """Yield (attribute's path, its type, numbers of its rows in order)."""
        paths, types = (self._columns[name].dictionary_encode() for name in ("attribute_path", "attribute_type"))
        path_ids, type_ids = (column.indices.fill_null(-1).to_numpy(zero_copy_only=False) for column in (paths, types))
        pairs = np.stack([path_ids, type_ids]).astype(np.int64)
        _, first, inverse = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        for rows in np.split(order, np.cumsum(np.bincount(inverse.reshape(-1), minlength=len(first)))[:-1]):
            path, kind = path_ids[rows[0]], type_ids[rows[0]]
            if path >= 0 and kind >= 0:
                yield paths.dictionary[int(path)].as_py(), types.dictionary[int(kind)].as_py(), rows

    def value(self, column: str, row: int) -> Any:
        """Return one value as Python's."""
        return self._columns[column][int(row)].as_py()

    def step(self, row: int) -> float:
        """Return a step; 0 when there is none."""
        return float(self.value("step", row) or 0)

    def time(self, row: int) -> int:
        """Return a time, Unix time in milliseconds; -1 when there is none."""
        return int(self.times(np.array([row]))[0])

    def steps(self, rows: NDArray[np.int64], multiplier: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return steps times the multiplier, and which of them are there and whole."""
        import pyarrow as pa

        taken = self._taken("step", rows)
        there = taken.is_valid().to_numpy(zero_copy_only=False)
        # A decimal is a whole number of 128 bits; 18 digits fit into the lower half.
        words = np.frombuffer(taken.fill_null(0).cast(pa.decimal128(18, 6)).buffers()[1], "<i8")
        millionths = words[::2][: len(rows)]
        unit = UNIT // multiplier
        return millionths // unit, there & (millionths % unit == 0)

    def times(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return times, Unix time in milliseconds; -1 where there is none."""
        import pyarrow as pa

        taken = self._taken("timestamp", rows).cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
        return np.asarray(taken.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)

    def floats(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return values of float series."""
        taken = self._taken("float_value", rows)
        return np.asarray(taken.fill_null(np.nan).to_numpy(zero_copy_only=False), np.float64)

    def has_float(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows have a value; NaN is one."""
        return np.asarray(self._taken("float_value", rows).is_valid().to_numpy(zero_copy_only=False), np.bool_)

    def _taken(self, column: str, rows: NDArray[np.int64]) -> Any:
        import pyarrow as pa

        return self._columns[column].take(pa.array(rows))


def batches(file: Path, rows: int = _ROWS) -> Iterator[Batch | LeftOut]:
    """Yield a part's rows; what cannot be read is yielded as left out.

    Raises:
        InvalidRequest: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InvalidRequest("reading Neptune's export needs pyarrow: pip install 'runtide[server]'") from error
    try:
        with ParquetFile(file) as parquet:
            if missing := [name for name in _COLUMNS if name not in parquet.schema_arrow.names]:
                yield LeftOut(file.name, f"it is no part of a Neptune export: it has no column {', '.join(missing)}")
                return
            for batch in parquet.iter_batches(rows, columns=list(_COLUMNS)):
                yield Batch(batch)
    except (ArrowException, OSError) as error:
        yield LeftOut(f"the rest of {file.name}", f"no whole Parquet file: {error}")
