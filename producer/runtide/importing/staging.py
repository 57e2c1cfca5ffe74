"""A run as its source has it now, and what of it is new: points go to a file on disk, the rest is kept in memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide.importing.identity import digest_of
from runtide.importing.ledger import Imported
from runtide.importing.names import original_name_tag, our_name
from runtide.importing.records import Artifact, Attributes, Input, LeftOut, Model, Params, Points, Read, Record, Tags
from runtide.spool.sealing import MOST_POINTS
from runtide.spool.tail import RECORD_TYPE
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import DatasetInput
from runtide_schemas.limits import (
    MAX_PARAM_VALUE_LENGTH,
    MAX_RUN_NAME_LENGTH,
    MAX_TAG_VALUE_LENGTH,
    check_experiment_name,
    check_run_id,
    check_text,
)

LONG_TEXTS_DIRECTORY = "import"
_HASHED = np.dtype([("step", "<i8"), ("timestamp", "<i8"), ("value", "<f8")])
_HASH_BYTES = 16
_NO_POINT = "their time is before 1970 or no number, or their step is no whole number of 64 bits"
_LAST_TIME = 253_402_300_799_999
"""The end of the year 9999."""

Advance = Callable[[int, int], object]
"""Called with (amount read, points read) since the last call."""


@dataclass(slots=True)
class _Series:
    """How far a series is read: ``known`` points were imported before and are passed over."""

    known: int
    known_digest: str
    hash: Any
    key_id: int
    count: int = 0
    rewritten: bool = False


def dataset_digest(dataset: DatasetInput) -> str:
    """Return what a dataset that was imported is known by."""
    return digest_of(asdict(dataset))


class StagedRun(AbstractContextManager["StagedRun"]):
    """A run that is read wholly, held against what was imported of it before.

    Attributes:
        attributes: of the run; None when the source gave none.
        params, tags: by our names.
        inputs: datasets.
        artifacts: files to be stored.
        models: models that are among them.
        left_out: what cannot be imported.
        new_points: points that were not imported before.
        names: metric keys by their ids in the staged points.
    """

    def __init__(self, known: Imported, points: Path | None) -> None:
        """Stage nothing yet.

        Args:
            known: what is imported.
            points: file for the new points; None only counts them.
        """
        self.attributes: Attributes | None = None
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.inputs: list[DatasetInput] = []
        self.artifacts: list[Artifact] = []
        self.models: list[Model] = []
        self.left_out: list[LeftOut] = []
        self.new_points = 0
        self.names: dict[int, str] = {}
        self._known = known
        self._ids: dict[str, int] = {}
        self._series: dict[str, _Series] = {}
        self._refused: dict[str, int] = {}
        self._path = points
        self._file = None if points is None else points.open("w+b")

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def take(self, records: Iterable[Record], advance: Advance = lambda _amount, _points: None) -> None:
        """Take all records of a run."""
        for record in records:
            if isinstance(record, Points):
                self._take_points(record)
                advance(0, len(record.values))
            elif isinstance(record, Read):
                advance(record.amount, 0)
            else:
                self._take_fact(record)
        self._conclude()

    def _take_fact(self, record: Attributes | Params | Tags | Input | Artifact | Model | LeftOut) -> None:
        match record:
            case Attributes():
                self.attributes = self._checked(record)
            case Params():
                for name, value in record.values.items():
                    self._take_text(self.params, "param", name, value, MAX_PARAM_VALUE_LENGTH)
            case Tags():
                for name, value in record.values.items():
                    self._take_text(self.tags, "tag", name, value, MAX_TAG_VALUE_LENGTH)
            case Input():
                self.inputs.append(record.dataset)
            case Artifact():
                self._take_artifact(record)
            case Model():
                self.models.append(record)
            case LeftOut():
                self.left_out.append(record)

    def state(self, artifacts: dict[str, str], writers: tuple[str, ...]) -> Imported:
        """Return the state of the run once all that is staged is imported: what only the source has lost stays."""
        return Imported(
            series=self.series,
            params=self._known.params | {name: digest_of(value) for name, value in self.params.items()},
            tags={name: digest_of(value) for name, value in self.tags.items()},
            inputs=tuple(dict.fromkeys((*self._known.inputs, *map(dataset_digest, self.inputs)))),
            artifacts=artifacts,
            attributes={} if self.attributes is None else asdict(self.attributes),
            writers=writers,
        )

    @property
    def series(self) -> dict[str, tuple[int, str]]:
        """By stream and key, the number of points and their hash; of series that were rewritten, what is imported."""
        read = {
            name: (series.count, series.hash.hexdigest())
            for name, series in self._series.items()
            if not series.rewritten and series.count >= series.known
        }
        return self._known.series | read

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Yield the new points as the records that a spool's tail has, in pieces that make an event each."""
        if self._file is None:
            return
        self._file.flush()
        self._file.seek(0)
        while data := self._file.read(MOST_POINTS * RECORD_TYPE.itemsize):
            yield np.frombuffer(data, RECORD_TYPE)

    def _take_points(self, points: Points) -> None:
        if len(bad := np.flatnonzero(points.timestamps < 0)):
            self._refused[points.key] = self._refused.get(points.key, 0) + len(bad)
            good = points.timestamps >= 0
            points = Points(points.stream, points.key, points.steps[good], points.timestamps[good], points.values[good])
        series = self._series_of(points)
        hashed = np.empty(len(points.values), _HASHED)
        hashed["step"], hashed["timestamp"], hashed["value"] = points.steps, points.timestamps, points.values
        passed = min(len(hashed), max(0, series.known - series.count))
        series.hash.update(hashed[:passed].tobytes())
        series.count += passed
        if passed and series.count == series.known:
            series.rewritten = series.hash.hexdigest() != series.known_digest
        if passed == len(hashed) or series.rewritten:
            return
        series.hash.update(hashed[passed:].tobytes())
        series.count += len(hashed) - passed
        self.new_points += len(hashed) - passed
        if self._file is not None:
            rows = np.zeros(len(hashed) - passed, RECORD_TYPE)
            for column in ("step", "timestamp", "value"):
                rows[column] = hashed[column][passed:]
            rows["key"] = series.key_id
            self._file.write(rows.tobytes())

    def _series_of(self, points: Points) -> _Series:
        name = f"{points.stream}\t{points.key}"
        if (series := self._series.get(name)) is None:
            known, digest = self._known.series.get(name, (0, ""))
            key_id = self._key_id(points.key)
            series = _Series(known, digest, hashlib.blake2b(digest_size=_HASH_BYTES), key_id)
            self._series[name] = series
        return series

    def _key_id(self, key: str) -> int:
        if (number := self._ids.get(key)) is None:
            number = self._ids[key] = len(self._ids) + 1
            self.names[number] = self._named("metric", key)
        return number

    def _named(self, kind: str, name: str) -> str:
        """Return our name, and keep the original in a tag when that is another."""
        ours = our_name(name)
        if ours != name:
            try:
                tag, original = original_name_tag(name)
                self.tags[tag] = original
            except InvalidRequest as error:
                self.left_out.append(LeftOut(f"the original name of {kind} {ours!r}", str(error)))
        return ours

    def _take_text(self, texts: dict[str, str], kind: str, name: str, value: str, longest: int) -> None:
        ours = self._named(kind, name)
        try:
            texts[ours] = check_text(value, f"{kind} {ours!r}", longest)
        except InvalidRequest as error:
            why = str(error)
            if len(value) > longest:
                path = f"{LONG_TEXTS_DIRECTORY}/{kind}s/{hashlib.sha256(ours.encode()).hexdigest()[:16]}.txt"
                at = self.attributes.start_time if self.attributes else 0
                self._take_artifact(Artifact(path=path, at=at, data=value.encode("utf-8", "backslashreplace")))
                why = f"{len(value)} characters, the limit is {longest}; the whole of it is the artifact {path}"
            self.left_out.append(LeftOut(f"{kind} {ours!r}", why))

    def _take_artifact(self, artifact: Artifact) -> None:
        """Content that the source holds in memory goes to disk, so that any number of it may come."""
        if artifact.file is None and self._path is not None:
            file = self._path.with_suffix(f".artifact-{len(self.artifacts)}")
            file.write_bytes(artifact.data)
            artifact = Artifact(path=artifact.path, at=artifact.at, file=file)
        elif artifact.file is None:  # only counted
            artifact = Artifact(path=artifact.path, at=artifact.at)
        self.artifacts.append(artifact)

    def _checked(self, attributes: Attributes) -> Attributes | None:
        """Return attributes that can be stored; cut nothing, but say what is left out."""
        fields = asdict(attributes)
        if not 0 <= attributes.start_time <= _LAST_TIME:
            return None
        if attributes.end_time is not None and not 0 <= attributes.end_time <= _LAST_TIME:
            self.left_out.append(LeftOut("the run's end", f"{attributes.end_time} is no time"))
            fields["end_time"] = None
        try:
            check_text(attributes.name, "Run name", MAX_RUN_NAME_LENGTH)
        except InvalidRequest as error:
            self.left_out.append(LeftOut("the run's name", str(error)))
            fields["name"] = ""
        for name, what, check in (
            ("experiment", "the experiment's name", check_experiment_name),
            ("parent_run_id", "the parent run", check_run_id),
        ):
            try:
                fields[name] = check(fields[name]) if fields[name] else ""
            except InvalidRequest as error:
                self.left_out.append(LeftOut(what, str(error)))
                fields[name] = ""
        for name in ("user", "reason", "source_name", "source_version"):
            try:
                check_text(fields[name], name, MAX_TAG_VALUE_LENGTH)
            except InvalidRequest as error:
                self.left_out.append(LeftOut(name, str(error)))
                fields[name] = ""
        return Attributes(**fields)

    def _conclude(self) -> None:
        for key, count in self._refused.items():
            self.left_out.append(LeftOut(f"{count:,} points of {key!r}", _NO_POINT))
        for name, series in self._series.items():
            if series.rewritten or series.count < series.known:
                stream, _, key = name.partition("\t")
                where = f" in {stream}" if stream else ""
                self.left_out.append(
                    LeftOut(
                        f"new points of {key!r}{where}",
                        "the points that were imported before have changed at the source since, so nobody can say which "
                        "are new; what was imported stays",
                    )
                )
