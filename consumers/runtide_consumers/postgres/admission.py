"""Which events of a batch are new: by their writer's numbers, and for catalogue facts by the request they answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from runtide_consumers.answers import is_news
from runtide_consumers.decoding import sequence_run
from runtide_consumers.projection import Event
from runtide_consumers.sequences import Admission, Gap, Sequence, admit
from runtide_schemas import topics

SequenceKey = tuple[str, str, str]
"""Run ("" for the topics that are not about runs), writer, topic."""


@dataclass(slots=True)
class Heard:
    """When a sequence's records were written, by their own times, so that a rebuild says the same.

    Attributes:
        at: time of its latest record, Unix milliseconds; None before the first.
        since: by gap, the time of the record after it, by which it was first seen.
    """

    at: int | None = None
    since: dict[Gap, int] = field(default_factory=dict)

    def note(self, at: int, gaps: tuple[Gap, ...] | None) -> None:
        """Take note of a record of time ``at``, and of the gaps that it leaves if it changed them.

        What is left of an older gap is as old as that.
        """
        self.at = at if self.at is None else max(self.at, at)
        if gaps is None:
            return
        self.since = {gap: next((old for known, old in self.since.items() if _within(gap, known)), at) for gap in gaps}


def _within(gap: Gap, other: Gap) -> bool:
    return other[0] <= gap[0] and gap[1] <= other[1]


@dataclass(slots=True)
class Admitted:
    """What is left of a batch, and what is known about writers after it.

    Attributes:
        events: new events, in their order.
        sequences: sequences that have changed.
        heard: when their records were written.
        gaps_changed: those of them whose gaps have changed.
        last_request_offset: offset of the last request whose answer was seen; -1 before the first.
        duplicates: events that had been applied before.
        stale: catalogue facts that answer what had been answered before (another registrar's).
    """

    events: list[Event] = field(default_factory=list)
    sequences: dict[SequenceKey, Sequence] = field(default_factory=dict)
    heard: dict[SequenceKey, Heard] = field(default_factory=dict)
    gaps_changed: set[SequenceKey] = field(default_factory=set)
    last_request_offset: int = -1
    duplicates: int = 0
    stale: int = 0


def sequence_key(event: Event) -> SequenceKey:
    """Return the sequence that an event counts in."""
    return sequence_run(event), event.envelope.writer, event.origin.topic


def admit_events(
    events: Iterable[Event],
    known: Mapping[SequenceKey, Sequence],
    last_request_offset: int,
    heard: Mapping[SequenceKey, Heard] = MappingProxyType({}),
) -> Admitted:
    """Return which of ``events`` are new, given what is known about their writers."""
    result = Admitted(last_request_offset=last_request_offset)
    for event in events:
        key = sequence_key(event)
        before = result.sequences.get(key) or known.get(key) or Sequence()
        after, admission = admit(before, event.envelope.seq)
        if admission is Admission.DUPLICATE:
            result.duplicates += 1
            continue
        result.sequences[key] = after
        times = result.heard.get(key) or heard.get(key) or Heard()
        result.heard[key] = times
        times.note(event.origin.timestamp_ms, after.gaps if after.gaps != before.gaps else None)
        if after.gaps != before.gaps:
            result.gaps_changed.add(key)
        if _is_stale(event, result):
            result.stale += 1
        else:
            result.events.append(event)
    return result


def _is_stale(event: Event, result: Admitted) -> bool:
    if event.origin.topic != topics.CATALOG:
        return False
    if not is_news(event.body, result.last_request_offset):
        return True
    result.last_request_offset = event.body.answer.request_offset
    return False
