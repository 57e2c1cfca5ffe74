"""W&B's transaction log, ``run-<id>.wandb``: what an offline run is, and what every run leaves on disk.

The frames are read by ``record_files``, the messages with the classes of the ``wandb`` package.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtide.importing.identity import derived_id
from runtide.importing.local_files import Unreadable, artifacts_below, is_within, milliseconds
from runtide.importing.nested_values import flat, parsed, text_of
from runtide.importing.record_files import read_wandb_log
from runtide.importing.records import Attributes, LeftOut, Params, Read, Record, SourceRun, Tags
from runtide.importing.series_buffer import SeriesBuffer
from runtide.tracking.run_log import NOTE_TAG

SUFFIX = ".wandb"
SYSTEM_PREFIX = "system/"
_RUN_FOLDER = re.compile(r"(offline-)?run-")
_READ_EVERY = 1024 * 1024
_MEDIA_MARK = "._type"
_IN_REPORT = {"artifact": "artifacts of W&B's registry", "alert": "alerts", "tbrecord": "references to TensorBoard"}


def find_logs(root: Path) -> list[Path]:
    """Return the logs below a directory; links to directories, as ``latest-run`` is, are not followed."""
    found = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        found += [Path(folder) / name for name in sorted(names) if name.endswith(SUFFIX)]
    return [path for path in found if path.is_file() and is_within(path, root)]


def log_runs(files: list[Path]) -> Iterator[SourceRun | LeftOut]:
    """Yield the runs of logs; a run that was resumed has several."""
    runs: dict[tuple[str, str, str], list[Path]] = {}
    for file in files:
        try:
            runs.setdefault(_identity(file), []).append(file)
        except (Unreadable, OSError) as error:
            yield LeftOut(f"run in {file.name}", str(error))
    for (entity, project, run_id), parts in runs.items():
        yield SourceRun(
            run_id=derived_id("wandb", entity, project, run_id),
            label=run_id,
            origin=f"{entity}/{project}/{run_id}",
            size=sum(part.stat().st_size for part in parts),
            read=lambda parts=parts: _LogReader(parts).records(),  # type: ignore[misc]
        )


def _identity(file: Path) -> tuple[str, str, str]:
    run = _parse(_run_record(file)).run
    return run.entity, run.project, run.run_id


def _run_record(file: Path) -> bytes:
    """Return the record that says which run it is; with its time it tells the logs of a resumed run apart, too."""
    for _, data in read_wandb_log(file):
        if _parse(data).WhichOneof("record_type") == "run":
            return data
    raise Unreadable("it has no record of the run itself: nothing was logged, or it was truncated")


def _parse(data: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record as Message

    try:
        return Message.FromString(data)
    except DecodeError as error:
        raise Unreadable(f"a record is no message of W&B's: {error}") from error


class _LogReader:
    """Reads the logs of one run, the earliest first."""

    def __init__(self, files: list[Path]) -> None:
        self._files = sorted(files, key=lambda file: (file.parent.name, file.name))
        self._run: Any = None
        self._program: Any = None
        self._start = -1
        self._last = -1
        self._exit: int | None = None
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._logged: set[str] = set()
        self._skipped: Counter[str] = Counter()

    def records(self) -> Iterator[Record]:
        """Yield the run's records."""
        for file in self._files:
            self._exit = None
            buffer = SeriesBuffer(hashlib.sha256(_run_record(file)).hexdigest()[:16])
            try:
                yield from self._of_file(file, buffer)
            except (Unreadable, OSError) as error:
                yield LeftOut(f"the rest of {file.name}", str(error))
            yield from buffer.rest()
        if self._run is not None and self._start >= 0:
            yield self._attributes()
            yield from self._texts()
        for file in self._files:
            yield from self._files_beside(file)
        for what, count in sorted(self._skipped.items()):
            yield LeftOut(f"{count:,} {what}", "there is no place for them in a run; files of media are artifacts")

    def _files_beside(self, file: Path) -> Iterator[Record]:
        """Yield a run's files. A log that lies elsewhere, e.g. among downloads, has somebody else's ``files`` beside it."""
        files = file.parent / "files"
        if _RUN_FOLDER.match(file.parent.name):
            yield from artifacts_below(files, (file.parent,))
        elif files.is_dir():
            yield LeftOut(f"files in {files}", "the log lies in no run's folder of W&B's (run-* or offline-run-*)")

    def _of_file(self, file: Path, buffer: SeriesBuffer) -> Iterator[Record]:
        said = samples = 0
        for end, data in read_wandb_log(file):
            record = _parse(data)
            match record.WhichOneof("record_type"):
                case "history":
                    yield from self._of_history(record.history, buffer)
                case "stats":
                    yield from self._of_stats(record.stats, samples, buffer)
                    samples += 1
                case kind:
                    self._of_other(kind, record)
            if end - said >= _READ_EVERY:
                yield Read(end - said)
                said = end
        yield Read(file.stat().st_size - said)

    def _of_history(self, history: Any, buffer: SeriesBuffer) -> Iterator[Record]:
        values = dict(_items(history.item))
        at = self._seen(values.get("_timestamp"))
        step = values.get("_step")
        if not isinstance(step, int):
            step = history.step.num
        plain = dict(flat(values))
        media = {name.removesuffix(_MEDIA_MARK): kind for name, kind in plain.items() if name.endswith(_MEDIA_MARK)}
        for name, kind in media.items():
            self._skipped[f"values of {name!r} ({kind})"] += 1
        for name, value in plain.items():
            self._logged.add(name)
            if name.startswith("_") or any(name.startswith(f"{medium}.") for medium in media):
                continue
            if isinstance(value, int | float):
                yield from buffer.add(name, step, at, float(value))
            else:
                kind = value.get("_type", "mapping") if isinstance(value, dict) else type(value).__name__
                self._skipped[f"values of {name!r} ({kind})"] += 1

    def _of_stats(self, stats: Any, sample: int, buffer: SeriesBuffer) -> Iterator[Record]:
        at = self._seen(_seconds(stats.timestamp))
        for item in stats.item:
            if isinstance(value := parsed(item.value_json), int | float):
                yield from buffer.add(SYSTEM_PREFIX + item.key, sample, at, float(value))

    def _of_other(self, kind: str | None, record: Any) -> None:
        match kind:
            case "run":
                self._run = record.run
                start = milliseconds(_seconds(record.run.start_time))
                self._start = start if self._start < 0 else min(self._start, start)
                _change(self._config, record.run.config)
            case "config":
                _change(self._config, record.config)
            case "summary":
                _change(self._summary, record.summary)
            case "environment":
                self._program = record.environment if record.environment.program else self._program
            case "exit":
                self._exit = record.exit.exit_code
                if self._start >= 0:
                    self._last = max(self._last, self._start + 1000 * record.exit.runtime)
            case str() if kind in _IN_REPORT:
                self._skipped[_IN_REPORT[kind]] += 1

    def _seen(self, seconds: Any) -> int:
        at = milliseconds(seconds) if isinstance(seconds, int | float) else -1
        self._last = max(self._last, at)
        return at

    def _attributes(self) -> Attributes:
        run, program = self._run, self._program
        ended = self._exit is not None
        return Attributes(
            name=run.display_name or run.run_id,
            experiment=run.project,
            user=program.username if program is not None else "",
            start_time=self._start,
            end_time=max(self._start, self._last) if ended else None,
            status=("FAILED" if self._exit else "FINISHED") if ended else "RUNNING",
            reason=f"exit code {self._exit}" if self._exit else "",
            source_name=program.program if program is not None else "",
            source_version=run.git.commit,
        )

    def _texts(self) -> Iterator[Record]:
        run = self._run
        config = {key: value for key, value in self._config.items() if key != "_wandb"}
        yield Params({name: text_of(value) for name, value in flat(config) if name})
        tags = {
            "wandb.run_id": run.run_id,
            "wandb.entity": run.entity,
            "wandb.group": run.run_group,
            "wandb.job_type": run.job_type,
            "wandb.sweep": run.sweep_id,
            "wandb.host": run.host,
            "wandb.tags": text_of(list(run.tags)) if run.tags else "",
            NOTE_TAG: run.notes,
        }
        only_here = {
            f"wandb.summary.{name}": text_of(value)
            for name, value in flat(self._summary)
            if name and not name.startswith("_") and name not in self._logged and not isinstance(value, dict)
        }
        yield Tags({name: value for name, value in tags.items() if value} | only_here)


def _items(items: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, value); W&B has written names as ``key``, as ``nested_key``, and values as JSON and as numbers."""
    for item in items:
        name = item.key or ".".join(item.nested_key)
        kind = None if item.value_json else _typed(item)
        yield name, parsed(item.value_json) if kind is None else getattr(item, kind)


def _typed(item: Any) -> str | None:
    for name in ("number", "integer", "boolean", "text"):
        if name in item.DESCRIPTOR.fields_by_name:
            field = item.DESCRIPTOR.fields_by_name[name]
            if field.containing_oneof is not None and item.HasField(name):
                return name
    return None


def _change(values: dict[str, Any], change: Any) -> None:
    """Apply what a record updates and removes."""
    for item in change.update:
        place, names = values, list(item.nested_key) or [item.key]
        for name in names[:-1]:
            below = place.get(name)
            if not isinstance(below, dict):
                below = place[name] = {}
            place = below
        place[names[-1]] = parsed(item.value_json)
    for item in change.remove:
        values.pop(item.key or ".".join(item.nested_key), None)


def _seconds(timestamp: Any) -> float:
    return float(timestamp.seconds + timestamp.nanos / 1e9)
