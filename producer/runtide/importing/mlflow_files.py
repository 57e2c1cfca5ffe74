"""MLflow's file store, ``mlruns/``: read as it lies on disk (``mlflow/store/tracking/file_store.py``), without MLflow.

An experiment is a folder with ``meta.yaml``, a run one below it: ``meta.yaml``, a file per param, tag and metric (lines
``timestamp value step``), ``inputs/``, and ``artifacts/``. Deleted ones say so in ``meta.yaml``, or lie in ``.trash/``.
"""

import os
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from runtide.importing.local_files import Unreadable, is_within, read_text, read_yaml
from runtide.importing.mlflow_artifacts import ArtifactPlaces, LoggedModel, local_model
from runtide.importing.mlflow_runs import run_attributes, run_input
from runtide.importing.records import LeftOut, Params, Read, Record, SourceRun, Tags, found_run
from runtide.importing.series_buffer import SeriesBuffer
from runtide_schemas.errors import InvalidRequest

META = "meta.yaml"
_TRASH = ".trash"
_NO_RUNS = {"datasets", "models", "tags", "traces", "scorers"}
_REGISTRY = "models"
_MOST_LINE = 65_536


class FileStore:
    """The runs of a file store."""

    kind = "mlflow"

    def __init__(self, root: Path, artifact_roots: tuple[Path, ...] = (), deleted: bool = False) -> None:
        self._root = root
        self._places = ArtifactPlaces((root, *artifact_roots))
        self._deleted = deleted

    @staticmethod
    def at(path: Path) -> Path | None:
        """Return the store at a path or in ``mlruns`` below it; None when there is none."""
        for root in (path, path / "mlruns"):
            if root.is_dir() and any(root.glob(f"*/{META}")):
                return root
        return None

    def runs(self) -> Iterator[SourceRun | LeftOut]:
        """Yield the runs of all experiments."""
        for folder in _folders(self._root):
            if folder.name == _REGISTRY:
                for model in _folders(folder):
                    yield LeftOut(f"registered model {model.name!r}", "the registry is not imported; register it anew")
            elif (folder / META).exists():
                yield from self._experiment(folder, False)
        for folder in _folders(self._root / _TRASH):
            yield from self._experiment(folder, True)

    def _experiment(self, folder: Path, in_trash: bool) -> Iterator[SourceRun | LeftOut]:
        try:
            meta = read_yaml(folder / META, self._root)
        except Unreadable as error:
            yield LeftOut(f"experiment {folder.name}", f"{META}: {error}")
            return
        name = str(meta.get("name") or folder.name)
        if (in_trash or meta.get("lifecycle_stage") == "deleted") and not self._deleted:
            yield LeftOut(f"experiment {name!r}", "it is deleted; --deleted imports it")
            return
        if traces := sum(1 for _ in _folders(folder / "traces")):
            yield LeftOut(f"{traces:,} traces of experiment {name!r}", "there is no place for traces yet")
        reader = _Experiment(self._root, folder, name, self._places)
        for run in _folders(folder):
            if run.name not in _NO_RUNS:
                yield found_run(run.name, partial(self._run, run, reader))

    def _run(self, folder: Path, experiment: "_Experiment") -> SourceRun | LeftOut:
        try:
            meta = read_yaml(folder / META, self._root)
        except Unreadable as error:
            return LeftOut(f"run {folder.name}", f"{META}: {error}")
        if meta.get("lifecycle_stage") == "deleted" and not self._deleted:
            return LeftOut(f"run {folder.name}", "it is deleted; --deleted imports it")
        run_id = str(meta.get("run_id") or meta.get("run_uuid") or folder.name)
        return SourceRun(
            run_id=run_id,
            label=run_id,
            origin=f"{folder.parent.name}/{folder.name}",
            size=sum(file.stat().st_size for _, file in _files(folder / "metrics")),
            read=lambda: experiment.records(folder, run_id, meta),
        )


class _Experiment:
    """Reads the runs of one experiment."""

    def __init__(self, root: Path, folder: Path, name: str, places: ArtifactPlaces) -> None:
        self._root = root
        self._folder = folder
        self._name = name
        self._places = places
        self._models = cache(self._read_models)

    def records(self, folder: Path, run_id: str, meta: dict[str, Any]) -> Iterator[Record]:
        """Yield a run's records."""
        tags: dict[str, str] = {}
        yield from self._texts(folder / "tags", tags, "tag")
        params: dict[str, str] = {}
        yield from self._texts(folder / "params", params, "param")
        try:
            yield run_attributes(meta, tags, self._name)
        except (TypeError, ValueError, OverflowError) as error:
            yield LeftOut("the run", f"{META}: {error}")
            return
        yield Tags(tags)
        yield Params(params)
        for key, file in _files(folder / "metrics"):
            yield from self._metric(key, file)
        yield from self._inputs(folder / "inputs")
        uri = str(meta.get("artifact_uri") or "")
        yield from self._places.of_run(uri, self._folder.name, folder.name)
        yield from self._places.of_models([model for model in self._models() if model.run_id == run_id])

    def _texts(self, folder: Path, texts: dict[str, str], kind: str) -> Iterator[LeftOut]:
        for key, file in _files(folder):
            try:
                texts[key] = read_text(file, self._root)
            except Unreadable as error:
                yield LeftOut(f"{kind} {key!r}", str(error))

    def _metric(self, key: str, file: Path) -> Iterator[Record]:
        if not is_within(file, self._root):
            yield LeftOut(f"metric {key!r}", "a link that leaves the source")
            return
        buffer, bad, first = SeriesBuffer(""), 0, ""
        with file.open("rb") as lines:
            while line := lines.readline(_MOST_LINE):
                point = _point(line)
                if point is not None:
                    yield from buffer.add(key, *point)
                elif line.strip():
                    bad, first = bad + 1, first or repr(line[:80])
        yield from buffer.rest()
        yield Read(file.stat().st_size)
        if bad:
            yield LeftOut(f"{bad:,} lines of metric {key!r}", f"not 'timestamp value step' and a line end: {first}")

    def _inputs(self, folder: Path) -> Iterator[Record]:
        for link in _folders(folder):
            try:
                meta = read_yaml(link / META, self._root)
                dataset = read_yaml(self._folder / "datasets" / _name(meta.get("source_id")) / META, self._root)
            except Unreadable as error:
                yield LeftOut(f"input {link.name}", str(error))
                continue
            tags = meta.get("tags")
            given = {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}
            yield from run_input(dataset, given)

    def _read_models(self) -> list[LoggedModel]:
        models = []
        for folder in _folders(self._folder / "models"):
            try:
                models.append(
                    local_model(read_yaml(folder / META, self._root), "artifact_location", "creation_timestamp")
                )
            except (Unreadable, KeyError, ValueError):  # its run's artifacts are imported all the same
                continue
        return models


def _point(line: bytes) -> tuple[int, int, float] | None:
    """Return (step, timestamp, value) of a whole line."""
    fields = line.split()
    if not line.endswith(b"\n") or len(fields) < 2:
        return None
    try:
        return (int(fields[2]) if len(fields) > 2 else 0, int(fields[0]), float(fields[1]))
    except ValueError:
        return None


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name with slashes, path) of the regular files below a folder."""
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(below) / name
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or "/" in value or value in (".", ".."):
        raise Unreadable(f"{value!r} names no dataset")
    return value


def open_file_store(path: Path, artifact_roots: tuple[Path, ...], deleted: bool) -> FileStore:
    """Return the file store at a path.

    Raises:
        InvalidRequest: there is none.
    """
    if (root := FileStore.at(path)) is None:
        raise InvalidRequest(
            f"{str(path)!r} is no MLflow file store: neither it nor its folder mlruns has experiments (folders with {META})"
        )
    return FileStore(root, artifact_roots, deleted)
