"""What a writer that is gone has left of a topic's segments: whole events in a row, and all of it on the disk itself.

After a power cut a segment may end anywhere, have gaps, or be missing while a later one is there. All that was synced
is before the first tear, and only what was synced has been sent, or promised to be there (``durability.py``). So the
events after a tear are nobody's: they are set aside, and their points are made events again from the tail.
"""

import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runtide.spool.disk import Disk
from runtide.spool.segment import SegmentReader, TornHeader, segment_files

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Segment:
    """One segment: number of its first event, and bytes."""

    first: int
    path: Path
    size: int


@dataclass(slots=True)
class KeptSegments:
    """What there is: ``written`` is the number after the last event, ``tail_end`` the index after its last point."""

    segments: list[Segment] = field(default_factory=list)
    written: int = 0
    tail_end: int = 0


def recover_segments(directory: Path, topic: str, acknowledged: int, disk: Disk) -> KeptSegments:
    """Return a topic's segments up to the first tear, cut there, and synced.

    A gap below ``acknowledged`` is no tear: deleting segments was interrupted.

    Raises:
        FatalError: a segment is damaged, or was written by a newer version.
        OSError: the disk takes no changes; one that only fails to sync is left to ``Disk.failure``.
    """
    kept = KeptSegments(written=acknowledged)
    expected: int | None = None
    files = [(first, path) for name, first, path in segment_files(directory) if name == topic]
    for place, (first, path) in enumerate(files):
        if expected is not None and max(expected, acknowledged) < first:
            _set_aside((later for _, later in files[place:]), f"event {expected} of {topic} is missing before them")
            break
        expected = max(expected or 0, _take(kept, first, path, disk))
    return kept


def end_of(path: Path, seq: int) -> int:
    """Return the offset in a segment after the events below ``seq``."""
    reader = SegmentReader(path)
    try:
        end = reader.end
        for event in reader:
            if event.seq >= seq:
                return end
            end = reader.end
        return end
    finally:
        reader.close()


def _take(kept: KeptSegments, first: int, path: Path, disk: Disk) -> int:
    """Add a segment's events; return the number after the last one."""
    try:
        reader = SegmentReader(path)
    except TornHeader as error:
        _set_aside([path], str(error))
        return first
    after = first
    try:
        kept.tail_end = max(kept.tail_end, reader.tail_start)
        for event in reader:
            if event.seq == after:
                after += 1
                kept.tail_end = max(kept.tail_end, event.tail_end)
        _cut(path, reader, disk)
    finally:
        reader.close()
    kept.written = max(kept.written, after)
    if after == first:
        path.unlink()
    else:
        kept.segments.append(Segment(first, path, reader.end))
    return after


def _cut(path: Path, reader: SegmentReader, disk: Disk) -> None:
    """Cut what comes after the last whole event, and sync the rest: its writer may not have."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size > reader.end:
            if reader.more_follows():
                shutil.copyfile(path, _aside(path))
                log.warning("%s is torn after byte %d; what follows is kept in %s", path, reader.end, _aside(path))
            os.ftruncate(descriptor, reader.end)
        if disk.failure is None:
            disk.sync(descriptor)
    except OSError as error:
        if disk.failure is None:
            raise
        log.warning("%s: %s. It is sent all the same", path, error)
    finally:
        os.close(descriptor)


def _set_aside(paths: Iterable[Path], reason: str) -> None:
    for path in paths:
        if path.stat().st_size:
            path.rename(_aside(path))
            log.warning(
                "%s: %s. Nothing in it was synced before power was lost; kept as %s", path, reason, _aside(path)
            )
        else:
            path.unlink()


def _aside(path: Path) -> Path:
    """Return where a torn segment is kept: beside the spool, since that is deleted when it is sent."""
    directory = path.parent.with_name(f"{path.parent.name}.torn")
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / path.name
