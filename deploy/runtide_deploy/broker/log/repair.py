"""Giving up what is damaged in a partition's log, so that the rest can be served again.

Nothing is deleted: a damaged file moves into ``damaged/`` beside the segments. What is lost is written down first
(``gaps``), then each file is exchanged by a rename, so a crash leaves a log that can be repaired again. A log that
would end in a gap gets an empty batch there (``filler``).
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

from runtide_deploy.broker.durable_file import replace_file, sync_folder
from runtide_deploy.broker.errors import DamagedLog
from runtide_deploy.broker.log.damage import Damage, Examined, examine
from runtide_deploy.broker.log.filler import empty_batch
from runtide_deploy.broker.log.gaps import FILE_NAME as GAPS_FILE
from runtide_deploy.broker.log.gaps import Gap, Gaps, read_gaps, write_gaps
from runtide_deploy.broker.log.segment import Segment
from runtide_deploy.broker.log.sidecar import noted_end
from runtide_deploy.broker.log.start_offset import FILE_NAME as START_FILE
from runtide_deploy.broker.log.start_offset import read_start_offset


class PartitionReport(NamedTuple):
    """What is wrong with a partition.

    Attributes:
        segments: its files, oldest first.
        damage: what is wrong in them, without what was given up before.
        lost: offsets that are not there and were not given up before.
        start: where the log begins because records were deleted on request, 0 when they were not.
        known_end: offset up to which the log was stored for certain, as its start or the last clean stop tells.
        unreadable: small files that are not as they were written.
    """

    folder: Path
    segments: tuple[Examined, ...]
    damage: tuple[Damage, ...]
    lost: tuple[Gap, ...]
    known: Gaps
    start: int
    known_end: int
    unreadable: tuple[Path, ...]

    @property
    def is_sound(self) -> bool:
        """True when the broker serves all of it."""
        has_end = self.known_end <= self.end
        is_whole = has_end and not (self.damage or self.lost or self.unreadable)
        return bool(self.segments) and is_whole and not self.ends_in_gap

    @property
    def end(self) -> int:
        """Offset that follows the last batch."""
        return self.segments[-1].next_offset if self.segments else 0

    @property
    def ends_in_gap(self) -> bool:
        """True when offsets at the end are lost and no batch follows them, where consumers would wait."""
        end = max(self.end, self.known_end)
        is_lost = any(gap.following == end for gap in self.known.joined(self.lost).ranges)
        has_begun = bool(self.segments) and max(self.start, self.segments[0].base_offset) < end
        return is_lost and has_begun and not any(one.valid and one.next_offset == end for one in self.segments)


def examine_partition(folder: Path) -> PartitionReport:
    """Read all of a partition and change nothing.

    Raises:
        OSError: a file cannot be read.
    """
    unreadable = []
    known, start = Gaps(), 0
    try:
        known = read_gaps(folder)
    except DamagedLog:
        unreadable.append(folder / GAPS_FILE)
    try:
        start = read_start_offset(folder)
    except DamagedLog:
        unreadable.append(folder / START_FILE)
    paths = sorted(folder.glob("*.log"))
    known_end = max(start, noted_end(paths[-1]).next_offset) if paths else start
    segments = tuple(_examine_segments(paths, known_end))
    damage = tuple(
        found
        for segment in segments
        for found in segment.damage
        if found.end > found.start or not known.allow(found.first_lost, found.following)
    )
    lost = tuple(gap for gap in _lost(segments, damage, known_end) if not known.allow(*gap))
    return PartitionReport(folder, segments, damage, lost, known, start, known_end, tuple(unreadable))


def _examine_segments(paths: list[Path], known_end: int) -> Iterator[Examined]:
    bases = [int(path.stem) for path in paths]
    for path, base, following in zip_longest(paths, bases, bases[1:]):
        yield examine(path, base, following, known_end)


def _lost(segments: tuple[Examined, ...], damage: tuple[Damage, ...], known_end: int) -> Iterator[Gap]:
    found = [Gap(one.first_lost, one.following) for one in damage]
    found += [Gap(one.next_offset, following.base_offset) for one, following in pairwise(segments)]
    if segments:
        found.append(Gap(segments[-1].next_offset, known_end))
    yield from Gaps().joined(tuple(gap for gap in found if gap.following > gap.first)).ranges


def apply(report: PartitionReport) -> Path:
    """Give up what is damaged and return the folder where the damaged files are kept.

    Raises:
        DamagedLog: there is no segment file, so that nobody knows which offsets were used.
        OSError: the disk refuses; it can be tried again.
    """
    if not report.segments:
        raise DamagedLog(
            f"{report.folder} has no segment file: restore it from a copy, or delete the topic, since nobody knows "
            "which offsets were in use"
        )
    aside = report.folder / "damaged" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside.mkdir(parents=True)
    for path in report.unreadable:
        path.rename(aside / path.name)
    if report.known_end > report.end:
        # No offset that was acknowledged is ever given to another record. First, because what tells of it goes below.
        Segment.create(report.folder, report.known_end)
        sync_folder(report.folder)
    damaged = {found.path for found in report.damage if found.end > found.start}
    if report.ends_in_gap:
        # Before the gap is known, because a crash in between must not leave a log that passes for whole.
        damaged.discard(_fill(report, aside))
    write_gaps(report.folder, report.known.joined(report.lost))
    for segment in report.segments:
        if segment.path in damaged:
            _exchange(segment, aside)
    for folder in (aside, aside.parent, report.folder):
        sync_folder(folder)
    return aside


def _fill(report: PartitionReport, aside: Path) -> Path:
    """Give the last offset an empty batch, in a file of its own; return the file. One that is there has nothing valid."""
    offset = max(report.end, report.known_end) - 1
    path = report.folder / Segment.name(offset)
    if path.exists():
        os.link(path, aside / path.name)
        sync_folder(aside)
        path.with_suffix(".index").unlink(missing_ok=True)
    replace_file(path, empty_batch(offset))
    return path


def _exchange(segment: Examined, aside: Path) -> None:
    """Put the valid batches of a file in its place; a file without any goes."""
    os.link(segment.path, aside / segment.path.name)
    segment.path.with_suffix(".index").unlink(missing_ok=True)
    sync_folder(aside)
    if not segment.valid:
        segment.path.unlink()
        return
    beside = segment.path.with_suffix(".log.new")
    with segment.path.open("rb") as old, beside.open("wb") as new:
        for start, end in segment.valid:
            position = start
            while position < end:
                position += os.sendfile(new.fileno(), old.fileno(), position, end - position)
        new.flush()
        os.fsync(new.fileno())
    beside.chmod(0o600)
    beside.replace(segment.path)
