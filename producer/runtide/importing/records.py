"""What every source is turned into: runs, and of each run a stream of records that know nothing of where they came from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtide_schemas.errors import RuntideError
from runtide_schemas.events.runs import DatasetInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a run is. A reader yields it once, at any place.

    Attributes:
        name: display name; empty for the run's id.
        experiment: name of its experiment; empty for Default.
        user: who ran it.
        start_time: Unix time in milliseconds.
        end_time: the same; None when the source does not say that it ended.
        status: FINISHED, FAILED, KILLED, or RUNNING and SCHEDULED when it has not ended.
        reason: why it ended, when the source says so.
        parent_run_id: run id of the parent, as it is with us.
        source_name, source_type, source_version: the program, what kind it is, its commit.
        deleted: deleted at the source, and imported all the same because that was asked for.
    """

    name: str
    experiment: str = ""
    user: str = ""
    start_time: int
    end_time: int | None = None
    status: str = "RUNNING"
    reason: str = ""
    parent_run_id: str = ""
    source_name: str = ""
    source_type: str = "LOCAL"
    source_version: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of one series, in the source's order.

    Attributes:
        stream: the part of the source that only grows at its end, e.g. a file; with ``key`` it names a series.
        key: name of the metric at the source.
        steps: shape (n,), int64.
        timestamps: shape (n,), int64, Unix time in milliseconds.
        values: shape (n,), float64.
    """

    stream: str
    key: str
    steps: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Params:
    """Params, by the source's names."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags, by the source's names."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Input:
    """A dataset that the run used."""

    dataset: DatasetInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of the run: ``file``, or ``data`` when the source holds it inside another one.

    Attributes:
        path: among the run's artifacts.
        at: when it was stored, Unix time in milliseconds.
    """

    path: str
    at: int
    file: Path | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of the run, whose files come as artifacts.

    Attributes:
        model_id: its id.
        name: of the model.
        path: among the run's artifacts.
        directory: where its files are at the source.
        at: when it was logged, Unix time in milliseconds.
    """

    model_id: str
    name: str
    path: str
    directory: Path
    at: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not imported, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Read:
    """How much of the run has been read since the last one of these, in the unit of ``SourceRun.size``."""

    amount: int


Record = Attributes | Points | Params | Tags | Input | Artifact | Model | LeftOut | Read


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRun:
    """A run that a source has.

    Attributes:
        run_id: its id with us: the source's own where that is one, else derived from the source's identity.
        label: what people know it by.
        origin: where it came from, for the tag ``runtide.import.source``; the same on every machine.
        size: how much there is to read, about; any unit.
        read: yields its records; may be called again.
    """

    run_id: str
    label: str
    origin: str
    size: int
    read: Callable[[], Iterator[Record]]


class Source(Protocol):
    """A place that runs are imported from."""

    @property
    def kind(self) -> str:
        """Return what kind of source it is, e.g. ``tensorboard``."""
        ...

    def runs(self) -> Iterator[SourceRun | LeftOut]:
        """Yield its runs, and what looks like one and is left out.

        Raises:
            InvalidRequest: it is no source of that kind.
        """
        ...


def found_run(label: str, make: Callable[[], SourceRun | LeftOut]) -> SourceRun | LeftOut:
    """Return the run that ``make`` finds, or why it cannot be read: one that is damaged or hostile stops no other.

    Raises:
        RuntideError: as ``make`` does.
    """
    try:
        return make()
    except RuntideError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a source holds
        return LeftOut(f"run {label!r}", f"it cannot be read: {type(error).__name__}: {error}")


def points(stream: str, key: str, rows: list[tuple[int, int, float]]) -> Points:
    """Return points of rows of (step, timestamp in ms, value)."""
    steps, timestamps, values = zip(*rows, strict=True)
    return Points(stream, key, np.array(steps, np.int64), np.array(timestamps, np.int64), np.array(values, np.float64))
