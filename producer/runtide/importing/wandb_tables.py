"""W&B histories as tables: CSV (``run.history().to_csv()``, the page's export) and Parquet (``run.download_history_exports()``).

A row is a step: columns ``_step``, ``_timestamp`` (Unix time in seconds), and one per metric. Without ``_timestamp`` there is no
original time to keep, so such a table is left out. A folder that has ``config.json``, ``summary.json`` or
``wandb-metadata.json`` is one run, and all tables in it are its parts; otherwise each table is a run. A run is named by its path
below what was given, and known again by that and by the numbers of its first row: tables have no ids. So import a growing
table from the same folder each time.
"""

import csv
import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from runtide.importing.identity import derived_id, digest_of
from runtide.importing.local_files import Unreadable, is_within, milliseconds, read_text
from runtide.importing.nested_values import flat, parsed, text_of
from runtide.importing.records import Attributes, LeftOut, Params, Read, Record, SourceRun, Tags
from runtide.importing.series_buffer import SeriesBuffer
from runtide_schemas.errors import InvalidRequest

STEP, TIME = "_step", "_timestamp"
SUFFIXES = (".csv", ".parquet")
_CONFIG, _SUMMARY, _METADATA = "config.json", "summary.json", "wandb-metadata.json"
_SUMMARIES = (_SUMMARY, "wandb-summary.json")
_DOCUMENTS = (_CONFIG, *_SUMMARIES, _METADATA)
_ROWS = 1_024
_MOST_CELLS = 1_000_000
"""Of a batch: each becomes an object."""
_MOST_COLUMN_BYTES = 512 * 1024 * 1024
"""Of one column in one row group, unpacked: a page of it is unpacked whole."""

Row = Mapping[str, Any]


def table_runs(root: Path) -> Iterator[SourceRun | LeftOut]:
    """Yield the runs of the tables in a folder and below, or of one table."""
    if root.is_file():
        yield _run(root.parent, root.stem, [root])
        return
    for folder, folders, names in os.walk(root):
        folders.sort()
        tables = [Path(folder) / name for name in sorted(names) if name.endswith(SUFFIXES)]
        tables = [table for table in tables if table.is_file() and is_within(table, root)]
        below = Path(folder).relative_to(root)
        if tables and any(name in _DOCUMENTS for name in names):
            yield _run(Path(folder), below.as_posix() if below.name else root.name, tables)
        else:
            for table in tables:
                yield _run(Path(folder), (below / table.stem).as_posix(), [table])


def _run(folder: Path, name: str, tables: list[Path]) -> SourceRun | LeftOut:
    alone = len(tables) == 1 and not any((folder / document).exists() for document in _DOCUMENTS)
    said = {} if alone else _documents(folder)
    return SourceRun(
        run_id=derived_id("wandb-table", str(said.get("project") or ""), name, _fingerprint(tables[0])),
        label=name,
        origin=name,
        size=sum(table.stat().st_size for table in tables),
        read=lambda: _TableReader(name, said, tables).records(),
    )


def _fingerprint(table: Path) -> str:
    """Return a digest of the numbers in a table's first row: they stay when it gets longer or wider, or another format."""
    try:
        with closing(_rows(table)) as rows:
            first = next((row for row in rows if not isinstance(row, LeftOut)), {})
    except (Unreadable, OSError, csv.Error):  # reading the run says so
        return ""
    numbers = {name: _number(value) for name, value in first.items() if _is_metric(name) or name in (STEP, TIME)}
    return digest_of({name: repr(value) for name, value in numbers.items() if value is not None and value == value})


def _documents(folder: Path) -> dict[str, Any]:
    """Return what the files beside the tables say: config, summary, and facts about the run."""
    said: dict[str, Any] = {}
    for name in _DOCUMENTS:
        try:
            document = parsed(read_text(folder / name, folder)) if (folder / name).exists() else None
        except Unreadable as error:
            said.setdefault("left_out", []).append(LeftOut(name, str(error)))
            continue
        if isinstance(document, dict):
            said |= {"config": document} if name == _CONFIG else {}
            said |= {"summary": document} if name in _SUMMARIES else {}
            said |= {"metadata": document, "project": document.get("project")} if name == _METADATA else {}
        elif document is not None:
            said.setdefault("left_out", []).append(LeftOut(name, "it is no JSON object"))
    return said


class _TableReader:
    """Reads the tables of one run."""

    def __init__(self, name: str, said: dict[str, Any], tables: list[Path]) -> None:
        self._name = name
        self._said = said
        self._tables = tables
        self._first = -1
        self._last = -1
        self._skipped: Counter[str] = Counter()
        self._untimed = 0

    def records(self) -> Iterator[Record]:
        """Yield the run's records."""
        yield from self._said.get("left_out", ())
        for table in self._tables:
            buffer = SeriesBuffer(table.name if len(self._tables) > 1 else "")
            try:
                for row in _rows(table):
                    if isinstance(row, LeftOut):
                        yield row
                    else:
                        yield from self._of_row(row, buffer)
            except (Unreadable, OSError, csv.Error) as error:
                yield LeftOut(f"the rest of {table.name}", str(error))
            yield from buffer.rest()
            yield Read(table.stat().st_size)
        if self._first >= 0:
            yield Attributes(
                name=self._name,
                experiment=str(self._said.get("project") or ""),
                user=str(self._said.get("metadata", {}).get("username") or ""),
                start_time=self._first,
                end_time=self._last,
                status="FINISHED",
                source_name=str(self._said.get("metadata", {}).get("program") or ""),
            )
            yield from self._texts()
        if self._untimed:
            yield LeftOut(f"{self._untimed:,} rows", f"they have no {TIME} or {STEP}")
        for name, count in sorted(self._skipped.items()):
            yield LeftOut(f"{count:,} values of {name!r}", "they are no numbers")

    def _of_row(self, row: Row, buffer: SeriesBuffer) -> Iterator[Record]:
        seconds, step = _number(row.get(TIME)), _number(row.get(STEP))
        at = -1 if seconds is None else milliseconds(seconds)
        if at < 0 or step is None or not step.is_integer():
            self._untimed += 1
            return
        self._first = at if self._first < 0 else min(self._first, at)
        self._last = max(self._last, at)
        for name, value in row.items():
            if not _is_metric(name) or value is None:
                continue
            if (number := _number(value)) is not None:
                yield from buffer.add(name, int(step), at, number)
            else:
                self._skipped[name] += 1

    def _texts(self) -> Iterator[Record]:
        config = {key: value for key, value in self._said.get("config", {}).items() if key != "_wandb"}
        plain = {key: value["value"] if _is_described(value) else value for key, value in config.items()}
        yield Params({name: text_of(value) for name, value in flat(plain) if name})
        summary = self._said.get("summary", {})
        yield Tags(
            {
                f"wandb.summary.{name}": text_of(value)
                for name, value in flat(summary)
                if name and not name.startswith("_") and not isinstance(value, dict)
            }
        )


def _rows(table: Path) -> Generator[Row | LeftOut, None, None]:
    if table.suffix == ".csv":
        yield from _csv_rows(table)
        return
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InvalidRequest("reading Parquet needs pyarrow: pip install 'runtide[server]'") from error
    try:
        with ParquetFile(table) as file:
            yield from _parquet_rows(file)
    except ArrowException as error:
        raise Unreadable(f"no whole Parquet file: {error}") from error


def _parquet_rows(file: Any) -> Iterator[Row | LeftOut]:
    """Yield the rows' numbers. Other columns are never unpacked: a few bytes of them may stand for any number."""
    from pyarrow import types

    numbers = []
    for column in file.schema_arrow:
        if types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type):
            numbers.append(column.name)
        elif _is_metric(column.name) and not types.is_null(column.type):
            yield LeftOut(f"column {column.name!r}", f"it has no numbers, but {column.type}")
    _check_columns(numbers)
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        if any(
            part.total_uncompressed_size > _MOST_COLUMN_BYTES and part.path_in_schema in numbers for part in columns
        ):
            raise Unreadable(f"a column has more than {_MOST_COLUMN_BYTES:,} bytes in one row group")
    for batch in file.iter_batches(max(1, min(_ROWS, _MOST_CELLS // len(numbers))), columns=numbers):
        yield from batch.to_pylist()


def _csv_rows(table: Path) -> Iterator[Row]:
    with table.open(encoding="utf-8-sig", newline="", errors="backslashreplace") as file:
        rows = csv.reader(file)
        names = next(rows, [])
        _check_columns(names)
        for row in rows:
            yield {name: value or None for name, value in zip(names, row, strict=False)}


def _check_columns(names: list[str]) -> None:
    if missing := [name for name in (STEP, TIME) if name not in names]:
        raise Unreadable(
            f"it has no column {' and '.join(missing)}, so nobody knows when its points were logged; export "
            "run.history(), run.scan_history() or run.download_history_exports() instead"
        )


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float({"true": "1", "false": "0"}.get(value.lower(), value))
        except ValueError:
            return None
    return None


def _is_metric(name: str) -> bool:
    return bool(name) and not name.startswith(("_", "Unnamed:"))


def _is_described(value: Any) -> bool:
    """W&B's ``config.yaml`` and what is made of it keep each value beside a description."""
    return isinstance(value, dict) and "value" in value and value.keys() <= {"value", "desc"}
