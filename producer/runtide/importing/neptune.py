"""Neptune: the Parquet files that ``neptune-exporter`` writes (github.com/neptune-ai/neptune-exporter, not on PyPI).

Read by that program's README ("Data layout on disk", "Parquet schema") and ``src/neptune_exporter/model.py`` as of February
2026: ``<data>/<project>/<run>_part_<n>.parquet``, a row per attribute or point, a value column per type; files lie in
``<files>/<project>/`` under the path that the row has.

| attribute type | becomes |
|---|---|
| ``float``, ``int``, ``string``, ``bool``, ``datetime``, ``string_set`` | param; below ``sys/`` the run's attributes, or a tag ``neptune.<path>`` |
| ``float_series`` | metric: every point, steps times ``step_multiplier`` |
| ``string_series`` | one artifact, ``series/<path>.jsonl`` |
| ``file``, ``file_series`` | artifacts |
| ``histogram_series`` | left out, and counted |
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from runtide.connection import Connection
from runtide.importing.identity import derived_id
from runtide.importing.importer import ImportOptions, ImportReport, import_runs
from runtide.importing.local_files import artifacts_below, existing, is_within
from runtide.importing.neptune_columns import UNIT, Batch, batches
from runtide.importing.nested_values import text_of
from runtide.importing.progress import Progress
from runtide.importing.records import (
    Artifact,
    Attributes,
    LeftOut,
    Params,
    Points,
    Read,
    Record,
    SourceRun,
    Tags,
    found_run,
)
from runtide.importing.text_series import TextSeries, file_name
from runtide.tracking.run_log import NOTE_TAG
from runtide_schemas.errors import InvalidRequest

_PART = re.compile(r"(.+)_part_(\d+)\.parquet\Z")
_DATA = "data"
_SYSTEM = "sys/"
_RUNNING = ("running", "active")
_SERIES_DIRECTORY = "series"
MOST_CHARACTERS = 64 * 1024 * 1024
"""Of a run's params together: they wait in memory for its start time, which may come last."""


def import_export(
    path: str | Path,
    connection: Connection | None = None,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
    *,
    files: str | Path | None = None,
    step_multiplier: int = 1,
) -> ImportReport:
    """Import what ``neptune-exporter export`` has written; see ``import_runs``.

    Args:
        path: its ``--data-path``, the folder that has it as ``data``, or a project's folder in it.
        connection: where the stack is; None for what the environment says.
        options: how.
        progress: hears how far it is.
        files: its ``--files-path``; None looks for ``files`` beside a folder ``data``.
        step_multiplier: a power of ten up to a million: what steps with fractions are multiplied by to be whole.

    Raises:
        InvalidRequest: there is nothing of the kind.
    """
    source = Export(path, files=files, step_multiplier=step_multiplier)
    return import_runs(source, connection or Connection.resolve(), options, progress)


class Export:
    """The runs of an export."""

    kind = "neptune"

    def __init__(self, path: str | Path, *, files: str | Path | None = None, step_multiplier: int = 1) -> None:
        if step_multiplier < 1 or UNIT % step_multiplier or str(step_multiplier).strip("0") != "1":
            raise InvalidRequest(f"the step multiplier is a power of ten from 1 to {UNIT:,}, not {step_multiplier}")
        given = existing(path, "Neptune's export").absolute()
        self._data = given / _DATA if (given / _DATA).is_dir() else given
        named = [folder for folder in (self._data, self._data.parent) if folder.name == _DATA]
        guesses = [beside for folder in named if not (beside := folder.parent / "files").is_symlink()]
        self._files = [existing(files, "Neptune's files").absolute()] if files else guesses
        self._multiplier = step_multiplier

    def runs(self) -> Iterator[SourceRun | LeftOut]:
        """Yield the runs of all projects."""
        parts: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
        for file in sorted(self._data.rglob("*.parquet")):
            if (match := _PART.match(file.name)) and file.is_file() and is_within(file, self._data):
                parts.setdefault((file.parent, match[1]), []).append((int(match[2]), file))
        if not parts:
            raise InvalidRequest(f"there is no run of an export (*_part_0.parquet) in or below {self._data}")
        for (folder, name), found in parts.items():
            yield found_run(name, partial(self._run, folder, name, [file for _, file in sorted(found)]))

    def _run(self, folder: Path, name: str, files: list[Path]) -> SourceRun | LeftOut:
        first, problem = None, "it has no rows"
        for batch in batches(files[0], 1):
            if isinstance(batch, LeftOut):
                problem = batch.why
                break
            first = batch
            break
        if first is None:
            return LeftOut(f"run {name!r}", problem)
        project, run_id = (str(first.value(column, 0) or "") for column in ("project_id", "run_id"))
        roots = [root / folder.name for root in self._files] + self._files
        return SourceRun(
            run_id=_run_id(project, run_id),
            label=run_id or name,
            origin=f"{project}/{run_id}",
            size=sum(file.stat().st_size for file in files),
            read=lambda: _RunReader(project, run_id, files, roots, self._multiplier).records(),
        )


def _run_id(project: str, run_id: str) -> str:
    return derived_id("neptune", project, run_id)


class _RunReader:
    """Reads the parts of one run."""

    def __init__(self, project: str, run_id: str, files: list[Path], roots: list[Path], multiplier: int) -> None:
        self._project = project
        self._run_id = run_id
        self._parts = files
        self._roots = roots
        self._multiplier = multiplier
        self._system: dict[str, Any] = {}
        self._params: dict[str, str] = {}
        self._room = MOST_CHARACTERS
        self._texts = TextSeries(_SERIES_DIRECTORY)
        self._files: list[tuple[str, str, int | None, int]] = []
        self._first = -1
        self._last = -1
        self._skipped: Counter[tuple[str, str]] = Counter()

    def records(self) -> Iterator[Record]:
        """Yield the run's records."""
        for file in self._parts:
            for batch in batches(file):
                if isinstance(batch, LeftOut):
                    yield batch
                else:
                    yield from self._of_batch(batch)
            yield Read(file.stat().st_size)
        if (attributes := self._attributes()) is not None:
            yield attributes
            yield Params(self._params)
            yield Tags(dict(self._tags()))
        yield from self._texts.records(self._last)
        for path, stored, step, at in self._files:
            yield from self._file(path, stored, step, at)
        for (what, why), count in sorted(self._skipped.items()):
            yield LeftOut(f"{count:,} {what}", why)

    def _of_batch(self, batch: Batch) -> Iterator[Record]:
        for path, kind, rows in batch.groups():
            match kind:
                case "float_series":
                    yield from self._points(batch, path, rows)
                case "string_series":
                    for row in rows:
                        self._texts.add(path, batch.step(row), batch.time(row), str(batch.value("string_value", row)))
                case "file" | "file_series":
                    for row in rows:
                        stored = batch.value("file_value", row) or {}
                        step = round(batch.step(row)) if kind == "file_series" else None
                        self._files.append((path, str(stored.get("path") or ""), step, batch.time(row)))
                case "float" | "int" | "string" | "bool" | "datetime" | "string_set":
                    self._keep(path, batch.value(f"{kind}_value", rows[0]))
                case _:
                    self._skipped[f"rows of type {kind}", "there is no place for them in a run"] += len(rows)

    def _points(self, batch: Batch, path: str, rows: Any) -> Iterator[Points]:
        steps, whole = batch.steps(rows, self._multiplier)
        times, values, there = batch.times(rows), batch.floats(rows), batch.has_float(rows)
        if bad := int((~whole).sum()):
            why = "their steps are no whole numbers: give a --step-multiplier, e.g. 1000"
            self._skipped[f"points of {path!r}", why] += bad
        kept = whole & there
        steps, times, values = steps[kept], times[kept], values[kept]
        if len(timed := times[times >= 0]):
            self._first = int(timed.min()) if self._first < 0 else min(self._first, int(timed.min()))
            self._last = max(self._last, int(timed.max()))
        if len(values):
            yield Points("", path, steps, times, values)

    def _keep(self, path: str, value: Any) -> None:
        size = len(path) + len(_text(value))
        if size > self._room:
            self._skipped["params", f"a run's params have at most {MOST_CHARACTERS:,} characters together"] += 1
            return
        self._room -= size
        if path.startswith(_SYSTEM):
            self._system[path.removeprefix(_SYSTEM)] = value
        elif value is not None:
            self._params[path] = _text(value)

    def _attributes(self) -> Attributes | None:
        system = self._system
        start = _milliseconds(system.get("creation_time"), self._first)
        if start < 0:
            return None
        running = str(system.get("state") or "").lower() in _RUNNING
        seen = max(_milliseconds(system.get("ping_time"), -1), self._last, start)
        return Attributes(
            name=str(system.get("name") or self._run_id),
            experiment=self._project,
            user=str(system.get("owner") or ""),
            start_time=start,
            end_time=None if running else seen,
            status="RUNNING" if running else "FAILED" if system.get("failed") else "FINISHED",
            parent_run_id=_run_id(self._project, str(parent)) if (parent := system.get("forking/parent")) else "",
        )

    def _tags(self) -> Iterator[tuple[str, str]]:
        yield "neptune.run_id", self._run_id
        if note := self._system.get("description"):
            yield NOTE_TAG, str(note)
        for name, value in self._system.items():
            if value is not None and name != "description":
                yield f"neptune.{name}", _text(value)

    def _file(self, path: str, stored: str, step: int | None, at: int) -> Iterator[Record]:
        """Yield a file under its attribute's path, with the suffix that it has on disk."""
        found = next((root / stored for root in self._roots if stored and (root / stored).exists()), None)
        name = file_name(path) if step is None else f"{file_name(path)}/step-{step}"
        if found is None:
            yield LeftOut(f"file {path!r}", f"{stored or 'its path'!r} is not in the files of the export")
        elif not is_within(found, *(root for root in self._roots if root.is_dir())):
            yield LeftOut(f"file {path!r}", "its path leaves the files of the export")
        elif found.is_dir():
            yield from artifacts_below(found, (found,), f"{name}/")
        else:
            suffix = "" if name.endswith(found.suffix) else found.suffix
            yield Artifact(path=name + suffix, at=at if at >= 0 else int(found.stat().st_mtime * 1000), file=found)


def _milliseconds(value: Any, default: int) -> int:
    return round(value.timestamp() * 1000) if hasattr(value, "timestamp") else default


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else text_of(value)
