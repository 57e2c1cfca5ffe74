"""Which of a log's oldest segments are given up, by Apache Kafka's rules (``UnifiedLog.deleteOldSegments``, 4.x).

Only whole segments go, oldest first, and only what is stored. The active one goes too when it is expired itself; the
log then continues in a new, empty segment.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from runtide_deploy.broker.log.segment import Segment

FOR_EVER: Final = -1
"""No bound; every other negative number means the same."""
_NANOSECONDS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LogLimits:
    """What a topic's configuration says of its logs. Sizes are bytes, times are milliseconds.

    Attributes:
        segment_bytes: a segment that would grow beyond is finished.
        segment_ms: a record so much younger than its segment's first batch begins a new one.
        retention_bytes: the oldest segments go while what stays has at least this size.
        retention_ms: a segment goes when its youngest record is older.
    """

    segment_bytes: int
    segment_ms: int
    retention_bytes: int = FOR_EVER
    retention_ms: int = FOR_EVER


def count_expired(
    segments: Sequence[Segment], limits: LogLimits, start_offset: int, high_watermark: int, now_ms: int
) -> int:
    """Return how many of the oldest segments are to be deleted; all of them means that the log must roll first.

    Args:
        segments: of one log, oldest first.
        limits: what its topic says.
        start_offset: offset below which records were deleted on request.
        high_watermark: nothing from here on is given up.
        now_ms: the time, in milliseconds since the epoch.
    """
    stored = sum(segment.size > 0 and segment.next_offset <= high_watermark for segment in segments)
    candidates = segments[:stored]
    below_start = sum(segment.next_offset <= start_offset for segment in segments[:-1])
    count = max(below_start, _prefix(candidates, below_start, _is_over_size(segments[below_start:], limits)))
    return max(count, _prefix(candidates, count, _is_too_old(limits, now_ms)))


def _prefix(segments: Sequence[Segment], start: int, goes: Callable[[Segment], bool]) -> int:
    for number in range(start, len(segments)):
        if not goes(segments[number]):
            return number
    return max(start, len(segments))


def _is_over_size(kept: Sequence[Segment], limits: LogLimits) -> Callable[[Segment], bool]:
    surplus = sum(segment.size for segment in kept) - limits.retention_bytes

    def goes(segment: Segment) -> bool:
        nonlocal surplus
        if limits.retention_bytes < 0 or surplus < segment.size:
            return False
        surplus -= segment.size
        return True

    return goes


def _is_too_old(limits: LogLimits, now_ms: int) -> Callable[[Segment], bool]:
    return lambda segment: limits.retention_ms >= 0 and now_ms - _youngest_ms(segment) > limits.retention_ms


def _youngest_ms(segment: Segment) -> int:
    if segment.max_timestamp >= 0:
        return segment.max_timestamp
    # Records may carry no time; the file's own is what Apache Kafka takes then.
    return os.fstat(segment.file.number).st_mtime_ns // _NANOSECONDS_PER_MS
