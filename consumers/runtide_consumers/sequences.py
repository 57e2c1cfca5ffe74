"""Which events of a writer have been seen: the one rule by which every projection skips duplicates and records gaps.

A writer numbers its events per topic from 0. A projection keeps one ``Sequence`` per (run, writer, topic) beside its
rows, in the same transaction, and asks ``admit`` about each event. Pure: state in, state out.
"""

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

Gap = tuple[int, int]


class Admission(Enum):
    """What an event's number says about it."""

    NEXT = "next"
    """The one awaited: apply it."""
    AHEAD = "ahead"
    """Numbers before it are missing: apply it and record the gap."""
    LATE = "late"
    """It was missing: apply it, the gap shrinks."""
    DUPLICATE = "duplicate"
    """It has been applied: skip it."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """What has been seen of one writer in one topic.

    Attributes:
        next_seq: one above the greatest number seen; the one awaited.
        gaps: missing ranges below it, first and last number inclusive, ascending, neither touching nor overlapping.
    """

    next_seq: int = 0
    gaps: tuple[Gap, ...] = ()

    @property
    def missing(self) -> int:
        """Return how many numbers below ``next_seq`` have not been seen."""
        return sum(last - first + 1 for first, last in self.gaps)


def admit(sequence: Sequence, seq: int) -> tuple[Sequence, Admission]:
    """Return the state after the event numbered ``seq``, and what to do with it."""
    if seq == sequence.next_seq:
        return Sequence(seq + 1, sequence.gaps), Admission.NEXT
    if seq > sequence.next_seq:
        return Sequence(seq + 1, (*sequence.gaps, (sequence.next_seq, seq - 1))), Admission.AHEAD
    at = _gap_holding(sequence.gaps, seq)
    if at is None:
        return sequence, Admission.DUPLICATE
    gaps = (*sequence.gaps[:at], *_without(sequence.gaps[at], seq), *sequence.gaps[at + 1 :])
    return Sequence(sequence.next_seq, gaps), Admission.LATE


def _gap_holding(gaps: tuple[Gap, ...], seq: int) -> int | None:
    at = bisect_right(gaps, seq, key=lambda gap: gap[0]) - 1
    return at if at >= 0 and seq <= gaps[at][1] else None


def _without(gap: Gap, seq: int) -> tuple[Gap, ...]:
    first, last = gap
    halves = ((first, seq - 1), (seq + 1, last))
    return tuple((start, end) for start, end in halves if start <= end)
