"""TensorBoard: directories of event files, a run per directory that has any.

| in the event files | becomes |
|---|---|
| scalars, as ``simple_value`` (TensorFlow 1, PyTorch) or as tensors (TensorFlow 2, Keras) | metrics: every point, none sampled; values are 32-bit floats there |
| hparams | params, and start, end and status of the session |
| text | one artifact per tag, ``text/<tag>.jsonl``: step, time and text of each |
| images | artifacts ``images/<tag>%step%...``, the names of ``log_image(key=, step=)`` |
| histograms, audio, graphs, and others | left out, and counted in the report |

A run's id is derived from the name and the first record of its first event file, so it does not matter where the
directory lies. Its name is the directory's path below the source. TensorBoard does not say that a run has ended, so it
counts as FINISHED at its last event, unless hparams say otherwise; a later import moves that end.
"""

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from runtide.connection import Connection
from runtide.importing.identity import derived_id
from runtide.importing.importer import ImportOptions, ImportReport, import_runs
from runtide.importing.local_files import Unreadable, existing, is_within, milliseconds
from runtide.importing.progress import Progress
from runtide.importing.record_files import read_tfrecords
from runtide.importing.records import Artifact, Attributes, LeftOut, Params, Read, Record, SourceRun, Tags, found_run
from runtide.importing.series_buffer import SeriesBuffer
from runtide.importing.text_series import TextSeries, file_name
from runtide.tracking.images import series_path
from runtide_schemas.errors import InvalidRequest

KIND = "tensorboard"
TEXT_DIRECTORY = "text"
_EVENT_FILE = "tfevents"
_STATUSES = {1: "FINISHED", 2: "FAILED", 3: "RUNNING"}
_PNG = b"\x89PNG"
_READ_EVERY = 1024 * 1024


def import_directory(
    directory: str | Path,
    connection: Connection | None = None,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a directory of event files, or one event file; see ``import_runs``.

    Args:
        directory: the one that TensorBoard is given as ``--logdir``, a part of it, or a file.
        connection: where the stack is; None for what the environment says.
        options: how.
        progress: hears how far it is.

    Raises:
        InvalidRequest: there is nothing of the kind, or the extra ``tensorboard`` is not installed.
    """
    return import_runs(EventDirectory(directory), connection or Connection.resolve(), options, progress)


class EventDirectory:
    """The runs below a directory."""

    kind = KIND

    def __init__(self, directory: str | Path) -> None:
        if missing := [name for name in ("tensorboard", "crc32c") if importlib.util.find_spec(name) is None]:
            raise InvalidRequest(
                f"reading event files needs {' and '.join(missing)}: pip install 'runtide[tensorboard]'"
            )
        self._given = existing(directory, "TensorBoard's event files").absolute()
        self._root = self._given if self._given.is_dir() else self._given.parent

    def runs(self) -> Iterator[SourceRun | LeftOut]:
        """Yield a run for each directory that has event files."""
        found = False
        for folder, names in self._folders():
            found = True
            yield found_run(folder.name, partial(self._run, folder, [folder / name for name in names]))
        if not found:
            raise InvalidRequest(f"there is no event file (*{_EVENT_FILE}*) in or below {self._given}")

    def _folders(self) -> Iterator[tuple[Path, list[str]]]:
        if self._given.is_file():
            yield self._root, [self._given.name]
            return
        for folder, folders, names in os.walk(self._root):
            folders.sort()
            if events := sorted(name for name in names if _EVENT_FILE in name and not name.endswith(".profile-empty")):
                yield Path(folder), events

    def _run(self, folder: Path, files: list[Path]) -> SourceRun | LeftOut:
        relative = folder.relative_to(self._root).as_posix()
        label = self._root.name if relative == "." else relative
        inside = [file for file in files if file.is_file() and is_within(file, self._root)]
        if not inside:
            return LeftOut(f"run {label!r}", "its event files are links that leave the source")
        for file in inside:
            if (first := _first_record(file)) is not None:
                identity = derived_id(KIND, file.name, hashlib.sha256(first).hexdigest())
                return SourceRun(
                    run_id=identity,
                    label=label,
                    origin=file.name,
                    size=sum(file.stat().st_size for file in inside),
                    read=lambda: _RunReader(label, self._root.name, inside).records(),
                )
        return LeftOut(f"run {label!r}", "its event files have not one whole record")


class _RunReader:
    """Reads the event files of one run, in the order of their names."""

    def __init__(self, name: str, experiment: str, files: list[Path]) -> None:
        self._name = name
        self._experiment = experiment
        self._files = files
        self._first = -1
        self._last = -1
        self._session: dict[str, Any] = {}
        self._plugins: dict[str, str] = {}
        self._texts = TextSeries(TEXT_DIRECTORY)
        self._skipped: Counter[str] = Counter()

    def records(self) -> Iterator[Record]:
        """Yield the run's records."""
        for file in self._files:
            buffer = SeriesBuffer(file.name)
            try:
                yield from self._of_file(file, buffer)
            except (Unreadable, OSError) as error:
                yield LeftOut(f"the rest of {file.name}", str(error))
            yield from buffer.rest()
        yield from self._conclusion()

    def _of_file(self, file: Path, buffer: SeriesBuffer) -> Iterator[Record]:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.event_pb2 import Event

        said = 0
        for end, data in read_tfrecords(file):
            try:
                event = Event.FromString(data)
            except DecodeError as error:
                raise Unreadable(f"the record before byte {end:,} is no event: {error}") from error
            yield from self._of_event(event, buffer)
            if end - said >= _READ_EVERY:
                yield Read(end - said)
                said = end
        yield Read(file.stat().st_size - said)

    def _of_event(self, event: Any, buffer: SeriesBuffer) -> Iterator[Record]:
        at = milliseconds(event.wall_time)
        what = event.WhichOneof("what")
        if at >= 0:
            self._first = at if self._first < 0 else min(self._first, at)
            self._last = max(self._last, at if what != "file_version" else -1)
        if what == "graph_def":
            self._skipped["graphs"] += 1
        for value in event.summary.value if what == "summary" else ():
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                yield from buffer.add(value.tag, event.step, at, value.simple_value)
            else:
                yield from self._of_value(value, kind, event.step, at, buffer)

    def _of_value(self, value: Any, kind: str | None, step: int, at: int, buffer: SeriesBuffer) -> Iterator[Record]:
        plugin = value.metadata.plugin_data.plugin_name
        if plugin:
            self._plugins[value.tag] = plugin
        else:
            plugin = self._plugins.get(value.tag, "")
        if plugin == "hparams":
            yield from self._of_hparams(value)
        elif kind == "image":
            yield from self._images(value.tag, [value.image.encoded_image_string], step, at)
        elif kind == "tensor" and plugin == "images":
            yield from self._images(value.tag, list(value.tensor.string_val[2:]), step, at)
        elif kind == "tensor" and plugin == "text":
            self._text(value.tag, value.tensor, step, at)
        elif kind == "tensor" and plugin in ("", "scalars") and (number := _number(value.tensor)) is not None:
            yield from buffer.add(value.tag, step, at, number)
        else:
            self._skipped[plugin or {"histo": "histograms"}.get(kind or "", kind or "values without content")] += 1

    def _of_hparams(self, value: Any) -> Iterator[Record]:
        from google.protobuf.message import DecodeError
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        try:
            data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        except DecodeError as error:
            yield LeftOut(f"hparams in {value.tag!r}", f"they cannot be read: {error}")
            return
        kind = data.WhichOneof("data")
        if kind == "session_start_info":
            start = data.session_start_info
            self._session["start"] = milliseconds(start.start_time_secs)
            yield Params({name: _plain(hparam) for name, hparam in start.hparams.items()})
            if start.group_name:
                yield Tags({"tensorboard.group": start.group_name})
        elif kind == "session_end_info":
            self._session["end"] = milliseconds(data.session_end_info.end_time_secs)
            self._session["status"] = _STATUSES.get(data.session_end_info.status, "FINISHED")

    def _images(self, tag: str, images: list[bytes], step: int, at: int) -> Iterator[Record]:
        for place, image in enumerate(images):
            path = series_path(file_name(tag), step, max(0, at), derived_id(tag, str(step), str(at), str(place)))
            if not image.startswith(_PNG):
                path = path.removesuffix(".png") + (".jpeg" if image.startswith(b"\xff\xd8") else ".image")
            yield Artifact(path=path, at=max(0, at), data=image)

    def _text(self, tag: str, tensor: Any, step: int, at: int) -> None:
        texts = [part.decode(errors="backslashreplace") for part in tensor.string_val]
        self._texts.add(tag.removesuffix("/text_summary"), step, at, texts[0] if len(texts) == 1 else texts)

    def _conclusion(self) -> Iterator[Record]:
        start = self._session.get("start", -1)
        if start <= 0:
            start = self._first
        if start >= 0:
            yield self._attributes(start)
        yield from self._texts.records(self._last)
        for what, count in sorted(self._skipped.items()):
            yield LeftOut(f"{count:,} {what}", "there is no place for them in a run")

    def _attributes(self, start: int) -> Attributes:
        status = self._session.get("status", "FINISHED")
        end = max(self._session.get("end", -1), self._last, start)
        return Attributes(
            name=self._name,
            experiment=self._experiment,
            start_time=start,
            end_time=None if status == "RUNNING" else end,
            status=status,
        )


def _first_record(file: Path) -> bytes | None:
    try:
        return next((data for _, data in read_tfrecords(file)), None)
    except (Unreadable, OSError):
        return None


def _number(tensor: Any) -> float | None:
    """Return the value of a tensor that has one number."""
    from tensorboard.util.tensor_util import make_ndarray

    for values in (tensor.float_val, tensor.double_val):
        if len(values) == 1 and not tensor.tensor_shape.dim:
            return float(values[0])
    # As many as the shape says would be made of a single number that is stored.
    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    try:
        array = make_ndarray(tensor)
    except (TypeError, ValueError):
        return None
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiub" else None


def _plain(hparam: Any) -> str:
    """Return a protobuf ``Value`` as Python writes it; whole numbers without a fraction."""
    kind = hparam.WhichOneof("kind")
    readers: dict[str | None, Callable[[], str]] = {
        "number_value": lambda: repr(hparam.number_value).removesuffix(".0"),
        "string_value": lambda: str(hparam.string_value),
        "bool_value": lambda: str(hparam.bool_value),
        "null_value": lambda: "None",
    }
    return readers.get(kind, lambda: str(hparam).strip())()
