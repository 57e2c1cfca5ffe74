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
_MOST_TEXT_BYTES = 32 * 1024 * 1024
"""A part with more text than this is read by few rows at a time: any of its texts may be large."""
_ROWS_OF_TEXTS = 64
_STREAM_BYTES = 1024 * 1024
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

_TEXTS = (
    "project_id",
    "run_id",
    "attribute_path",
    "attribute_type",
    "string_value",
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
        pairs = np.stack([_by_appearance(path_ids), _by_appearance(type_ids)])
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

    A text that the file has once stays one in memory, for however many rows; of texts that differ, a page of the file
    and ``_ROWS_OF_TEXTS`` are in memory.

    Raises:
        InvalidRequest: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InvalidRequest("reading Neptune's export needs pyarrow: pip install 'runtide[server]'") from error
    try:
        with ParquetFile(file) as looked_at:
            metadata, names = looked_at.metadata, looked_at.schema_arrow.names
        if missing := [name for name in _COLUMNS if name not in names]:
            yield LeftOut(file.name, f"it is no part of a Neptune export: it has no column {', '.join(missing)}")
            return
        texts, size = _texts_of(metadata)
        few = min(rows, _ROWS_OF_TEXTS) if size > _MOST_TEXT_BYTES else rows
        how = {"metadata": metadata, "read_dictionary": texts, "pre_buffer": False, "buffer_size": _STREAM_BYTES}
        with ParquetFile(file, **how) as parquet:
            for batch in parquet.iter_batches(few, columns=list(_COLUMNS)):
                yield Batch(batch)
    except (ArrowException, OSError) as error:
        yield LeftOut(f"the rest of {file.name}", f"no whole Parquet file: {error}")


def _texts_of(metadata: Any) -> tuple[list[str], int]:
    """Return the names of the columns that hold texts, and how many bytes these have in the file, uncompressed."""
    schema = metadata.schema
    columns = [
        number
        for number in range(len(schema))
        if schema.column(number).physical_type == "BYTE_ARRAY" and schema.column(number).path.split(".")[0] in _TEXTS
    ]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = sum(group.column(number).total_uncompressed_size for group in groups for number in columns)
    return [schema.column(number).path for number in columns], size


def _by_appearance(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ids as numbers in the order in which they come, however the file numbers them."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]
