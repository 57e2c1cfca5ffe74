"""Moments in a log of which retention has removed something: what nobody knows any more is refused."""

import pytest

from runtide_queries.past.moments import Moments, Span
from runtide_schemas.errors import InvalidRequest

Place = tuple[str, int]
DAY = 86_400_000


class Log:
    """Partitions with a record a day, the number of days after 1970 being its offset."""

    def __init__(self, spans: dict[Place, Span]) -> None:
        self._spans = spans

    async def spans(self, names: tuple[str, ...]) -> dict[Place, Span]:
        """Return what each partition holds."""
        return {place: span for place, span in self._spans.items() if place[0] in names}

    async def first_after(self, partitions: list[Place], time_ms: int) -> dict[Place, tuple[int, int] | None]:
        """Return the first record that is later."""
        firsts = {place: max(self._spans[place].begin, time_ms // DAY + 1) for place in partitions}
        return {
            place: (first, first * DAY) if first < self._spans[place].end else None for place, first in firsts.items()
        }

    async def time_of(self, topic: str, partition: int, offset: int) -> int:
        """Return when a record came."""
        assert (topic, partition) in self._spans
        return offset * DAY


RUNS, EMPTY = ("runtide.runs", 0), ("runtide.runs", 1)


async def test_a_partition_that_was_emptied_tells_no_moment_but_now() -> None:
    moments = Moments(Log({RUNS: Span(2, 9), EMPTY: Span(7, 7)}))
    for text in ("1970-01-05T00:00:00Z", "1970-03-01T00:00:00Z", "runs:0@4"):
        with pytest.raises(InvalidRequest, match=r"runtide\.runs-1: retention has removed all its 7 records"):
            await moments.find(text)
    assert (await moments.find("now")).positions is None
    assert (await moments.find("runs:0@4,runs:1@3")).positions == {RUNS: 5, EMPTY: 4}


async def test_a_partition_that_never_had_a_record_is_no_obstacle() -> None:
    moments = Moments(Log({RUNS: Span(0, 9), EMPTY: Span(0, 0)}))
    assert (await moments.find("1970-01-05T00:00:00Z")).positions == {RUNS: 5, EMPTY: 0}
