"""What a moment is in the log: for each partition, the records that it had by then."""

from dataclasses import dataclass
from typing import Protocol

from runtide_queries.past.positions import FOLDED, Asked, Positions, parse_moment, positions_text
from runtide_schemas.envelope import format_time
from runtide_schemas.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Span:
    """What a partition holds: offsets from ``begin`` (above 0 where retention has removed records) up to before ``end``."""

    begin: int
    end: int


class LogTimes(Protocol):
    """What is asked of the log."""

    async def spans(self, names: tuple[str, ...]) -> dict[tuple[str, int], Span]:
        """Return what each partition of those topics holds."""

    async def first_after(
        self, partitions: list[tuple[str, int]], time_ms: int
    ) -> dict[tuple[str, int], tuple[int, int] | None]:
        """Return offset and time of the first record of each partition that is later than ``time_ms``; None for none."""

    async def time_of(self, topic: str, partition: int, offset: int) -> int:
        """Return the time of a record, Unix milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment, as it was asked for and as the log has it; ``positions`` is None for now: wherever the store stands."""

    asked: str
    positions: Positions | None

    def told(self, positions: Positions) -> dict[str, str]:
        """Return what an answer says about it; ``position`` asks for the very same state again."""
        return {"asked": self.asked, "position": positions_text(positions)}


class Moments:
    """Finds moments in the log."""

    def __init__(self, log: LogTimes) -> None:
        self._log = log

    async def find(self, text: str) -> Moment:
        """Return the moment that a text means.

        A time means, of every partition, all records before the first that is later: what the log had said by then, as far as
        its records' times tell.

        Raises:
            InvalidRequest: it is no moment, or one before the log begins or after its end.
            TransientError: the log is away.
        """
        asked = parse_moment(text)
        if asked.is_now:
            return Moment(asked=text, positions=None)
        spans = await self._log.spans(FOLDED)
        _check(asked.positions, spans)
        found = dict(asked.positions)
        if unnamed := [place for place in spans if place not in found]:
            by = await self._latest(asked) if asked.time_ms is None else asked.time_ms
            found |= await self._at(unnamed, spans, by, text, alone=asked.time_ms is not None)
        return Moment(asked=text, positions=found)

    async def _latest(self, asked: Asked) -> int:
        """Return the time of the latest record that is named; before all times when none is."""
        named = [(topic, partition, offset - 1) for (topic, partition), offset in asked.positions.items() if offset]
        return max([await self._log.time_of(*place) for place in named], default=-1)

    async def _at(
        self, places: list[tuple[str, int]], spans: dict[tuple[str, int], Span], by: int, text: str, *, alone: bool
    ) -> dict[tuple[str, int], int]:
        later = await self._log.first_after(places, by)
        found = {place: spans[place].end if (first := later[place]) is None else first[0] for place in places}
        for (topic, partition), offset in found.items():
            first, span = later[topic, partition], spans[topic, partition]
            if first is None and 0 < span.begin == span.end:
                raise InvalidRequest(
                    f"{text[:100]!r} cannot be placed in {topic}-{partition}: retention has removed all its {span.end:,} records, "
                    "so nobody knows which of them came by then. Ask for now, or name a whole position"
                )
            if first is not None and 0 < offset == span.begin:
                raise InvalidRequest(
                    f"{text[:100]!r} lies before what is left of {topic}-{partition}: retention has removed its beginning, "
                    f"the first record left is of {format_time(first[1])}. Ask for a later moment, or name a whole position"
                )
        firsts = [first[1] for first in later.values() if first is not None]
        if alone and firsts and not any(found.values()):
            raise InvalidRequest(
                f"{text!r} lies before the log begins; its first record is of {format_time(min(firsts))}"
            )
        return found


def _check(positions: Positions, spans: dict[tuple[str, int], Span]) -> None:
    for (topic, partition), offset in positions.items():
        span = spans.get((topic, partition))
        if span is None:
            raise InvalidRequest(f"{topic} has no partition {partition}; `runtide log` prints where events lie")
        if offset > span.end:
            raise InvalidRequest(
                f"{topic}-{partition}@{offset - 1} is not in the log yet: its last record is {span.end - 1}"
            )
