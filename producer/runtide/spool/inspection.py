"""Looking into spools without touching them: no lock is held, no file changed, whether their writers live or not."""

import contextlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtide.spool.acked import FILE as ACKED_FILE
from runtide.spool.acked import known_positions, read_acked
from runtide.spool.keys import FILE as KEYS_FILE
from runtide.spool.keys import read_keys
from runtide.spool.manifest import Manifest
from runtide.spool.owners import State, state_of
from runtide.spool.segment import SegmentReader, TornHeader, events_of, segment_files
from runtide.spool.tail import read_tail, tail_files
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.errors import FatalError, RuntideError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSummary:
    """What a writer's spool holds.

    Attributes:
        directory: where it lies.
        run_id, writer_id: whose it is; the run id is empty for a writer that only makes requests.
        state: who takes care of it.
        events: events on disk.
        unsent: those of them that the broker is not known to have.
        points: metric points that are no events yet.
        bytes: what its files take on disk.
        created: Unix time in milliseconds; 0 when unknown.
        problem: why it cannot be read; empty when it can.
    """

    directory: Path
    run_id: str
    writer_id: str
    state: State
    events: int
    unsent: int
    points: int
    bytes: int
    created: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a file. ``damage``: False for what a killed or a living writer leaves, and recovery mends."""

    path: Path
    text: str
    damage: bool = True


def summarize(directory: Path) -> SpoolSummary:
    """Return what a spool holds; one that cannot be read is reported, not raised."""
    run_id, writer_id, created = directory.parent.name, directory.name, 0
    state: State = "unreadable"
    events = unsent = points = 0
    problem = ""
    try:
        manifest = Manifest.read(directory)
        run_id, writer_id, created = manifest.run_id, manifest.writer_id, manifest.created
        acked = known_positions(directory)
        for topic, _, path in segment_files(directory):
            for event in events_of(path):
                events += 1
                unsent += event.seq >= acked.get(topic, 0)
        points = sum(len(records) for _, records in unsealed(directory))
        state = state_of(directory, manifest)
    except (RuntideError, OSError) as error:
        problem = str(error)
    return SpoolSummary(
        directory=directory,
        run_id=run_id,
        writer_id=writer_id,
        state=state,
        events=events,
        unsent=unsent,
        points=points,
        bytes=_bytes(directory),
        created=created,
        problem=problem,
    )


def verify(directory: Path) -> Iterator[Finding]:
    """Read every file of a spool wholly and yield what is wrong with it, and what is only unfinished."""
    try:
        Manifest.read(directory)
    except FatalError as error:
        yield Finding(directory, str(error))
    acked = read_acked(directory)
    if not acked and (directory / ACKED_FILE).exists() and (directory / ACKED_FILE).stat().st_size:
        yield Finding(directory / ACKED_FILE, "cannot be read; everything in the spool is sent again", damage=False)
    expected: dict[str, int] = {}
    for topic, first, path in segment_files(directory):
        wanted = expected.get(topic, first)
        if max(wanted, acked.get(topic, 0)) < first:
            yield Finding(path, f"events {wanted} to {first - 1} are missing before it")
        findings, expected[topic] = _verify_segment(path, first)
        yield from findings
    yield from _verify_tail(directory)


def unsealed(directory: Path, sealed: int | None = None) -> Iterator[tuple[Path, NDArray[Any]]]:
    """Yield tail files and their points that are no events yet; ``sealed``: the index after the last that is one.

    A file that a living writer deletes meanwhile is passed over: its points are events by then.
    """
    sealed = _sealed(directory) if sealed is None else sealed
    for path in tail_files(directory):
        try:
            first, records = read_tail(path)
        except FileNotFoundError:
            continue
        left = records[max(0, sealed - first) :]
        yield path, left[left["key"] != 0]


def _sealed(directory: Path) -> int:
    sealed = 0
    for topic, _, path in segment_files(directory):
        if topic == topics.METRICS:
            with contextlib.suppress(TornHeader), closing(SegmentReader(path)) as reader:
                sealed = max([sealed, reader.tail_start, *(event.tail_end for event in reader)])
    return sealed


def _verify_segment(path: Path, first: int) -> tuple[list[Finding], int]:
    """Return what is wrong with a segment, and the number after its last event."""
    findings, after = [], first
    try:
        reader = SegmentReader(path)
    except TornHeader as error:
        return [Finding(path, f"{error}: its writer or its machine died while it was made", damage=False)], first
    except FatalError as error:
        return [Finding(path, str(error))], first
    with closing(reader):
        for event in reader:
            if event.seq != after:
                findings.append(Finding(path, f"event {event.seq} follows event {after - 1}"))
            after = event.seq + 1
            try:
                decode(event.value())
            except RuntideError as error:
                findings.append(Finding(path, f"event {event.seq} ({event.type}) cannot be decoded: {error}"))
        rest = path.stat().st_size - reader.end
        if rest:
            more = reader.more_follows()
            text = f"{rest} bytes after event {after - 1} are no whole event"
            findings.append(Finding(path, text + (", and events follow" if more else ": torn"), damage=more))
    return findings, after


def _verify_tail(directory: Path) -> Iterator[Finding]:
    names = read_keys(directory)
    for path in tail_files(directory):
        try:
            _, records = read_tail(path)
        except FatalError as error:
            yield Finding(path, str(error))
            continue
        unknown = set(records["key"].tolist()) - names.keys() - {0}
        if unknown:
            yield Finding(directory / KEYS_FILE, f"lacks the names of keys {sorted(unknown)}, which {path.name} uses")


def _bytes(directory: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # its owner is deleting it
        return sum(path.stat().st_blocks * 512 for path in directory.iterdir())
    return 0
