"""One partition's log: its segments, its offsets, its idempotent producers.

Offsets: ``start_offset`` ≤ ``high_watermark`` ≤ ``end_offset``. Readers see what lies below the high watermark, which
is what is on disk: nobody can read a record that a power cut would take back.
"""

import asyncio
import logging
import os
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.durable_file import sync_folder
from runtide_deploy.broker.errors import DamagedBatch, DamagedLog, Refused
from runtide_deploy.broker.log.batch import BatchHeader, check_produced
from runtide_deploy.broker.log.gaps import Gaps, read_gaps
from runtide_deploy.broker.log.group_commit import GroupCommit
from runtide_deploy.broker.log.producers import ProducerStates
from runtide_deploy.broker.log.recovery import REPAIR, check_continues, open_last, recover_sealed
from runtide_deploy.broker.log.retention import LogLimits, count_expired
from runtide_deploy.broker.log.segment import ReadResult, Segment, SegmentFile
from runtide_deploy.broker.log.sidecar import read_sidecar, write_sidecar
from runtide_deploy.broker.log.start_offset import read_start_offset, write_start_offset
from runtide_deploy.broker.log.time_search import TimeSearch
from runtide_deploy.broker.log.trim import Trim, remove_leftovers, restore_producers

logger = logging.getLogger(__name__)


class Appended(NamedTuple):
    """Where a batch lies, and the group commit that stores it (None: it is stored already)."""

    base_offset: int
    stored: asyncio.Future[None] | None


def new_memory(size: int) -> memoryview:
    """Return fresh memory to read into."""
    return memoryview(bytearray(size))


class PlannedRead(NamedTuple):
    """A read that may run in any thread; its result then goes to ``finish`` on the event loop."""

    segment: Segment
    position: int
    max_bytes: int
    offset: int
    end_offset: int
    gaps: Gaps

    @property
    def size(self) -> int:
        """Bytes it will read at most, unless one batch is larger."""
        return min(self.max_bytes, self.segment.size - self.position)

    def run(
        self, take: Callable[[int], memoryview] = new_memory, *, may_block: bool = True, may_exceed: bool = True
    ) -> ReadResult:
        """Read and verify; nothing when it may not exceed its size and no batch fits.

        Args:
            take: returns so many bytes of memory to read into.
            may_block: whether to wait for the disk; who does gets what follows read ahead.
            may_exceed: whether a first batch that is larger than the read is returned all the same.

        Raises:
            BlockingIOError: not all of it is in the system's cache, and it may not block.
            DamagedLog: what lies there is no valid batch.
        """
        try:
            result = self.segment.read(
                *(self.position, self.max_bytes, self.offset, self.end_offset, self.gaps, take),
                may_block=may_block,
                may_exceed=may_exceed,
            )
            if may_block:
                self.segment.read_ahead(result.end_position, self.max_bytes)
        except BlockingIOError:
            raise
        except (DamagedBatch, OSError) as error:
            raise DamagedLog(f"{self.segment.path}: {error}") from error
        return result

    def finish(self, result: ReadResult) -> None:
        """Remember, back on the event loop, where the read ended: the same consumer will go on from there."""
        if result.records:
            self.segment.remember(result)


class PartitionLog:
    """The log of one partition. Every method belongs to the event loop.

    Attributes:
        refusal: why this partition is not served, or None.
        limits: how large and old segments grow and how long they are kept; may be replaced at any time.
        start_offset: offset of the oldest record kept.
        is_deleted: its topic was deleted while somebody still held this object.
        watchers: called without arguments whenever the high watermark moves.
    """

    def __init__(self, folder: Path, limits: LogLimits, producer_states: int, commit: GroupCommit) -> None:
        self.folder = folder
        self.limits = limits
        self.refusal: str | None = None
        self.is_deleted = False
        self.watchers: set[Callable[[], None]] = set()
        self.start_offset = 0
        self.high_watermark = 0
        self._producers = ProducerStates(producer_states)
        self._commit = commit
        self._segments: list[Segment] = []
        self._noted_end = -1
        self._gaps = Gaps()
        self._told_damage = ""

    def create(self) -> None:
        """Make the first, empty segment; a folder left by a crash during creation is taken over.

        Raises:
            OSError: the disk refuses.
        """
        self.folder.mkdir(exist_ok=True)
        first = self.folder / Segment.name(0)
        self._segments = [Segment.open(first) if first.exists() else Segment.create(self.folder, 0)]
        sync_folder(self.folder)

    def open(self) -> None:
        """Read what is on disk.

        Raises:
            DamagedLog: files are missing, or damaged before their tail.
            OSError: files cannot be read.
        """
        self._segments = [Segment.open(path) for path in sorted(self.folder.glob("*.log"))]
        if not self._segments:
            raise DamagedLog(f"the segment files in {self.folder} are missing: restore the folder from a copy")
        gaps = self._gaps = read_gaps(self.folder)
        restore_producers(self._segments[0], self._producers)
        for segment, following in pairwise(self._segments):
            if read_sidecar(segment, self._producers):
                check_continues(segment, following.base_offset, gaps)
            else:
                recover_sealed(segment, following.base_offset, self._producers, gaps)
                write_sidecar(segment, self._producers)
        self._segments[-1] = open_last(self._segments[-1], self._producers, gaps)
        self._noted_end = self.end_offset
        remove_leftovers(self.folder, self._segments[0])
        self.high_watermark = self.end_offset
        self.start_offset = max(self._segments[0].base_offset, read_start_offset(self.folder))
        if self.start_offset > self.end_offset:
            raise DamagedLog(
                f"{self.folder} begins at offset {self.start_offset} but its segment files end at {self.end_offset}: "
                f"restore the missing ones from a copy, or {REPAIR}"
            )

    def close(self) -> None:
        """Note how the last segment ends, if all of it is stored, so that the next start need not scan it."""
        is_stored = self.refusal is None and not self.is_deleted and self.high_watermark == self.end_offset
        if is_stored and self._noted_end != self.end_offset and self._segments[-1].size:
            write_sidecar(self._segments[-1], self._producers)

    def refuse(self, reason: str) -> None:
        """Stop serving this partition; every request to it is answered with ``reason``."""
        logger.error("partition %s is not served: %s", self.folder.name, reason)
        self.refusal = reason

    @property
    def end_offset(self) -> int:
        """Offset that the next record will get."""
        return self._segments[-1].next_offset if self._segments else 0

    @property
    def size(self) -> int:
        """Bytes of all batches."""
        return sum(segment.size for segment in self._segments)

    def check_served(self) -> None:
        """Raise Refused when this partition is not served."""
        if self.is_deleted:
            raise Refused(ErrorCode.unknown_topic_or_partition, f"{self.folder.name} was deleted")
        if self.refusal is not None:
            raise Refused(ErrorCode.kafka_storage_error, self.refusal)

    def append(self, records: bytes, max_bytes: int) -> Appended:
        """Check and write one batch as a producer sent it.

        Raises:
            Refused: with Kafka's code, nothing was written. A full disk is KAFKA_STORAGE_ERROR, which clients retry.
        """
        self.check_served()
        header = check_produced(records, max_bytes)
        duplicate = self._producers.find_duplicate(header)
        if duplicate is not None:
            return Appended(duplicate, self._commit.mark(self) if duplicate >= self.high_watermark else None)
        base_offset = self.end_offset
        self._write(records, header)
        self._producers.record(header, base_offset)
        return Appended(base_offset, self._commit.mark(self))

    def _write(self, records: bytes, header: BatchHeader) -> None:
        try:
            if self._must_roll(len(records), header.max_timestamp):
                self._roll()
            self._segments[-1].append(records, header)
        except OSError as error:
            logger.error("cannot append %d bytes to %s: %s", len(records), self.folder, error)
            raise Refused(
                ErrorCode.kafka_storage_error, f"cannot write to {self.folder}: {error}; free space and retry"
            ) from error

    def _must_roll(self, size: int, timestamp: int) -> bool:
        last = self._segments[-1]
        if not last.size:
            return False
        # Records' own times decide, as in Apache Kafka, so that what is written later about the past rolls alike.
        is_old = last.first_timestamp >= 0 and timestamp - last.first_timestamp > self.limits.segment_ms
        return is_old or last.size + size > self.limits.segment_bytes

    def _roll(self) -> None:
        last = self._segments[-1]
        # A segment is complete on disk before its successor exists: only the last one can be torn.
        self._commit.sync_now(last.file)
        following = Segment.create(self.folder, last.next_offset)
        try:
            sync_folder(self.folder)
        except OSError:
            # Nothing may be written to a file whose name could vanish with the power.
            following.path.unlink()
            raise
        self._segments.append(following)
        write_sidecar(last, self._producers)

    def unflushed(self) -> tuple[SegmentFile, int]:
        """Return the file that group commit must sync, and the offset up to which that stores the log."""
        return self._segments[-1].file, self.end_offset

    def flushed(self, mark: int) -> None:
        """Let readers see what is stored now."""
        self.high_watermark = mark
        for watcher in tuple(self.watchers):
            watcher()

    def plan_read(self, offset: int, max_bytes: int) -> PlannedRead | None:
        """Return the read of the batches from ``offset`` on, None at the end of the log.

        Raises:
            Refused: the offset is not within the log, or what lies on the way to it is damaged.
        """
        self.check_served()
        if not self.start_offset <= offset <= self.high_watermark:
            raise Refused(
                ErrorCode.offset_out_of_range,
                f"offset {offset} is not within {self.start_offset} to {self.high_watermark}",
            )
        if offset == self.high_watermark:
            return None
        number = self._number_of_segment(offset)
        if offset >= self._segments[number].next_offset:
            # Given up by a repair, to the end of the segment; consumers know such gaps from compacted topics.
            number += 1
            offset = self._segments[number].base_offset
        segment = self._segments[number]
        if offset >= self.high_watermark:
            return None
        try:
            position = segment.locate(offset)
            return PlannedRead(segment, position, max_bytes, offset, self.high_watermark, self._gaps)
        except (DamagedBatch, OSError) as error:
            raise self.refused_damage(DamagedLog(f"{segment.path}: {error}")) from error

    def _number_of_segment(self, offset: int) -> int:
        return bisect_right(self._segments, offset, key=lambda segment: segment.base_offset) - 1

    def plan_search(self, timestamp: int) -> TimeSearch:
        """Return the search for the first stored record at or after ``timestamp`` (milliseconds).

        Raises:
            Refused: this partition is not served.
        """
        self.check_served()
        return TimeSearch(tuple(self._segments), timestamp, self.start_offset, self.high_watermark)

    def plan_newest(self) -> TimeSearch:
        """Return the search for the first record with the highest timestamp of all (KIP-734).

        Raises:
            Refused: this partition is not served.
        """
        return self.plan_search(max((segment.max_timestamp for segment in self._segments), default=0))

    def plan_trim(self, now_ms: int) -> Trim | None:
        """Return the deletion of what retention gives up now, None when nothing is; ``finish_trim`` takes its result.

        An expired active segment is finished first, so that it can go.

        Raises:
            OSError: the disk refuses.
        """
        if self.is_deleted or self.refusal is not None or self._keeps_everything:
            return None
        count = count_expired(self._segments, self.limits, self.start_offset, self.high_watermark, now_ms)
        if count == len(self._segments) and not self._roll_for_deletion():
            count -= 1
        if not count:
            return None
        folder = SegmentFile(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        return Trim(folder, tuple(self._segments[:count]), self._segments[count])

    @property
    def _keeps_everything(self) -> bool:
        has_bound = self.limits.retention_ms >= 0 or self.limits.retention_bytes >= 0
        return not has_bound and self.start_offset <= self._segments[0].base_offset

    def _roll_for_deletion(self) -> bool:
        try:
            self._roll()
        except OSError as error:
            # A full disk: what is finished can go without it, and makes room for the next attempt.
            logger.warning("cannot begin a new segment in %s: %s", self.folder, error)
            return False
        return True

    def finish_trim(self, trim: Trim, gone: int) -> None:
        """Begin the log behind the segments that are gone; who still reads one of them reads on from its open file."""
        deleted = trim.segments[:gone]
        if not deleted:
            return
        del self._segments[: len(deleted)]
        self.start_offset = max(self.start_offset, self._segments[0].base_offset)
        logger.info(
            "%s: retention deleted %d segments of %d bytes; the log begins at offset %d",
            self.folder.name,
            len(deleted),
            sum(segment.size for segment in deleted),
            self.start_offset,
        )

    def delete_records(self, before: int) -> None:
        """Begin the log at ``before``, durably; the next sweep deletes the segments that lie below.

        Raises:
            Refused: OFFSET_OUT_OF_RANGE, or the disk refuses.
        """
        self.check_served()
        if not 0 <= before <= self.high_watermark:
            raise Refused(
                ErrorCode.offset_out_of_range, f"offset {before} is not within the log, which ends at {self.end_offset}"
            )
        if before <= self.start_offset:
            return
        try:
            write_start_offset(self.folder, before)
        except OSError as error:
            raise Refused(
                ErrorCode.kafka_storage_error, f"cannot write to {self.folder}: {error}; free space and retry"
            ) from error
        self.start_offset = before

    def refused_damage(self, damage: DamagedLog) -> Refused:
        """Return the answer to a read that met damage; the log is told once, however often clients ask again."""
        message = f"{damage}; restore the file from a copy, or {REPAIR}"
        if message != self._told_damage:
            self._told_damage = message
            logger.error("%s", message)
        return Refused(ErrorCode.corrupt_message, message)

    def retire(self) -> None:
        """Refuse everything from now on, because the topic was deleted; waiting readers wake up to learn so."""
        self.is_deleted = True
        for watcher in tuple(self.watchers):
            watcher()
