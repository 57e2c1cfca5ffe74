"""Opening a segment: what is valid is kept, a torn tail is cut, damage before valid data is refused.

Apache Kafka truncates everything after the first bad batch, because replicas hold the rest. Here nobody else does: if
a valid batch follows the damage, acknowledged data would be thrown away, so the partition is refused instead.
"""

import logging
import os
from typing import Final

from runtide_deploy.broker.errors import DamagedBatch, DamagedLog
from runtide_deploy.broker.log.batch import HEADER_BYTES, LEADER_EPOCH, MAGIC, read_header, walk_buffer
from runtide_deploy.broker.log.gaps import Gaps
from runtide_deploy.broker.log.producers import ProducerStates
from runtide_deploy.broker.log.segment import Segment
from runtide_deploy.broker.log.sidecar import NotedEnd, noted_end, read_sidecar, write_sidecar

REPAIR: Final = (
    "stop the broker and run `python -m runtide_deploy.broker.repair --data DIR` to see what is lost and to give it up"
)
_EPOCH_AND_MAGIC: Final = LEADER_EPOCH.to_bytes(4, "big") + MAGIC.to_bytes(1, "big")
_EPOCH_POSITION: Final = 12
logger = logging.getLogger(__name__)


def open_last(segment: Segment, producers: ProducerStates, gaps: Gaps) -> Segment:
    """Fill the segment that was written last: from what was noted of it, else from a scan, which is noted; return it.

    Only what was synced is noted, and a segment only grows: where its size is still what was noted, so is its content.
    What was noted is believed once the batches behind the last index entry are valid and end where it says. A segment
    that has grown since must still reach as far: what was noted is no torn tail.

    Raises:
        DamagedLog: as ``recover_last``.
    """
    before = producers.snapshot()
    if read_sidecar(segment, producers):
        if _ends_as_noted(segment):
            return segment
        logger.warning("%s does not end as it did when the broker stopped; scanning all of it", segment.path)
        producers.restore(before)
        segment = Segment.open(segment.path)
    recover_last(segment, producers, gaps, noted_end(segment.path))
    if segment.size:
        write_sidecar(segment, producers)
    return segment


def _ends_as_noted(segment: Segment) -> bool:
    end = segment.base_offset
    try:
        for _, header in segment.walk(segment.index.position_at_or_before(segment.next_offset), segment.size):
            end = header.last_offset + 1
    except DamagedBatch:
        return False
    return end == segment.next_offset


def recover_last(segment: Segment, producers: ProducerStates, gaps: Gaps, noted: NotedEnd) -> None:
    """Scan the segment that was being written, rebuild index and producer states, cut a torn tail.

    Raises:
        DamagedLog: valid batches follow the damage, or it begins before what is noted as stored; nothing was changed.
    """
    file_size = os.fstat(segment.file.number).st_size
    if not file_size:
        _check_reaches(segment, noted, "it is empty")
        return
    try:
        scan(segment, file_size, producers, gaps)
    except DamagedBatch as damage:
        _refuse_if_data_follows(segment, damage, file_size)
        _check_reaches(segment, noted, damage.reason)
        logger.warning(
            "%s: cut %d torn bytes at the tail (from byte %d, %s); they were never acknowledged",
            segment.path,
            file_size - segment.size,
            segment.size,
            damage.reason,
        )
        os.ftruncate(segment.file.number, segment.size)
    _check_reaches(segment, noted, "the file ends there")
    # What a killed process wrote may lie in the page cache only: it becomes readable now, so it must be stored now.
    os.fdatasync(segment.file.number)


def _check_reaches(segment: Segment, noted: NotedEnd, reason: str) -> None:
    """Raise DamagedLog when the valid part of a segment ends before what is known to have been stored of it."""
    if segment.size < noted.size:
        raise DamagedLog(
            f"{segment.path} is damaged at byte {segment.size} ({reason}): it held {noted.size} bytes, up to offset "
            f"{noted.next_offset - 1}, when the broker noted its end, and they were acknowledged. This partition is not "
            f"served. Restore the file from a copy, or {REPAIR}; other partitions are served"
        )


def recover_sealed(segment: Segment, next_base_offset: int, producers: ProducerStates, gaps: Gaps) -> None:
    """Scan a segment that others follow: it must be valid to its end and reach the next one.

    Raises:
        DamagedLog: it does not.
    """
    try:
        scan(segment, os.fstat(segment.file.number).st_size, producers, gaps)
    except DamagedBatch as damage:
        raise damaged_log(segment, damage) from damage
    check_continues(segment, next_base_offset, gaps)


def check_continues(segment: Segment, next_base_offset: int, gaps: Gaps) -> None:
    """Raise DamagedLog unless ``segment`` ends where the next one begins, or what is missing was given up."""
    if segment.next_offset != next_base_offset and not gaps.allow(segment.next_offset, next_base_offset):
        raise DamagedLog(
            f"{segment.path} ends at offset {segment.next_offset} but the next segment begins at {next_base_offset}: "
            f"restore the missing segment files of this partition from a copy, or {REPAIR}"
        )


def scan(segment: Segment, end: int, producers: ProducerStates, gaps: Gaps) -> None:
    """Take every batch of a segment file in, up to the byte ``end``.

    Raises:
        DamagedBatch: at the first invalid batch, or one whose offset does not continue the log.
    """
    for position, header in segment.walk(0, end):
        if header.base_offset != segment.next_offset and not gaps.allow(segment.next_offset, header.base_offset):
            raise DamagedBatch(position, f"offset is {header.base_offset}, expected {segment.next_offset}")
        segment.take_in(header, position)
        producers.record(header, header.base_offset)


def damaged_log(segment: Segment, damage: DamagedBatch) -> DamagedLog:
    """Return the error that tells an operator what is wrong with a segment and what to do."""
    return DamagedLog(
        f"{segment.path} is damaged at byte {damage.position} ({damage.reason}), before valid data: "
        f"this partition is not served. Restore the file from a copy, or {REPAIR}; other partitions are served"
    )


def _refuse_if_data_follows(segment: Segment, damage: DamagedBatch, file_size: int) -> None:
    tail = memoryview(os.pread(segment.file.number, file_size - segment.size, segment.size))
    if _find_valid_batch(tail, segment.next_offset):
        raise damaged_log(segment, damage) from damage


def _find_valid_batch(tail: memoryview, lowest_offset: int) -> bool:
    """Look for any batch that could have been acknowledged: right bytes in the right places, and a right checksum."""
    haystack = tail.tobytes()
    at = haystack.find(_EPOCH_AND_MAGIC)
    while at >= 0:
        start = at - _EPOCH_POSITION
        if start >= 0 and _is_valid_batch(tail, start, lowest_offset):
            return True
        at = haystack.find(_EPOCH_AND_MAGIC, at + 1)
    return False


def _is_valid_batch(tail: memoryview, start: int, lowest_offset: int) -> bool:
    if start + HEADER_BYTES > len(tail):
        return False
    header = read_header(tail, start)
    if header.base_offset < lowest_offset or header.size > len(tail) - start:
        return False
    try:
        return any(True for _ in walk_buffer(tail[start : start + header.size], 0))
    except DamagedBatch:
        return False
