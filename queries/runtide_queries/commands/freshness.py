"""Reads that see what was written before them, by whomever and through whichever gateway.

A read asks the broker how long the log is, then waits until the projection has folded that much of the partitions it
depends on. What other writers wrote is waited for as long as that is cheap; what this gateway has acknowledged must be there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from runtide_queries.log import partition_of
from runtide_schemas import topics
from runtide_schemas.errors import TransientError

Place = tuple[str, int]
"""A topic and a partition."""
Positions = Mapping[Place, int]

FOLDED = (topics.RUNS, topics.METRICS, topics.CATALOG)
OTHERS_S = 5.0
"""How long a read waits for what others wrote before it is answered without."""
OWN_S = 20.0
"""How long it waits for what this gateway wrote before it is refused."""
_POLL_S = 0.003


class Written(Protocol):
    """An acknowledged event: ``runtide.direct.Published``."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Ends:
    """How long the log is. Callers that come while the broker is being asked share the next answer, not the one under way."""

    def __init__(self, ask: Callable[[Iterable[str]], Awaitable[Positions]], names: Sequence[str] = FOLDED) -> None:
        """``ask`` is asked for the partitions of these topics: each costs the broker and us as much as all else of a question."""
        self._ask = ask
        self._names = names
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Positions] | None = None

    async def now(self) -> Positions:
        """Return the offset after the last record of each partition, not older than this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._answer(), name="ends of the log")
        return await asyncio.shield(self._next)

    async def _answer(self) -> Positions:
        async with self._turn:
            self._next = None
            return await self._ask(self._names)


class Freshness:
    """Waits for one projection. Belongs to one event loop."""

    def __init__(self, projection: str, ends: Ends, positions: Callable[[], Awaitable[Positions]]) -> None:
        """``positions`` tells the next offset that the projection reads, by partition."""
        self._projection = projection
        self._ends = ends
        self._ask_positions = positions
        self._positions: Positions = {}
        self._own: dict[Place, int] = {}
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    def note(self, written: Written) -> None:
        """Hear of an event of this gateway that the log has."""
        if written.offset >= 0:
            place = written.topic, written.partition
            self._own[place] = max(self._own.get(place, 0), written.offset + 1)

    async def run(self, run_id: str) -> None:
        """Wait until all that the log says of a run, but its metrics, is folded.

        Raises, as the others do:
            TransientError: the log or the store is away, or the projection does not get on.
        """
        await self._reach(lambda ends: [partition_of_run(run_id, ends)])

    async def metrics(self, run_id: str) -> None:
        """Wait until all that the log says of a run is folded."""
        await self._reach(lambda ends: [partition_of_run(run_id, ends), *_of(ends, topics.METRICS)])

    async def runs(self) -> None:
        """Wait until all that the log says of whatever run or logged model, but metrics, is folded."""
        await self._reach(lambda ends: _of(ends, topics.RUNS))

    async def points(self) -> None:
        """Wait until all metrics of the log are folded."""
        await self._reach(lambda ends: _of(ends, topics.METRICS))

    async def catalogue(self) -> None:
        """Wait until everything that the registrar decided is folded."""
        await self._reach(lambda ends: _of(ends, topics.CATALOG))

    async def everything(self) -> None:
        """Wait until all of the log that searches look at is folded."""
        await self._reach(list)

    async def of(self, written: Sequence[Written]) -> None:
        """Wait until some events that this gateway wrote are folded."""
        for one in written:
            self.note(one)
        wanted = {(one.topic, one.partition): self._own.get((one.topic, one.partition), 0) for one in written}
        await self._wait(wanted)

    async def _reach(self, places: Callable[[Positions], list[Place]]) -> None:
        ends = await self._ends.now()
        await self._wait({place: ends[place] for place in places(ends)})

    async def _wait(self, wanted: Positions) -> None:
        began = time.monotonic()
        while missing := {place: end for place, end in wanted.items() if self._positions.get(place, 0) < end}:
            waited = time.monotonic() - began
            own = {
                place: self._own[place] for place in missing if self._positions.get(place, 0) < self._own.get(place, 0)
            }
            if waited >= OTHERS_S and not own:
                return
            if waited >= OWN_S:
                (topic, partition), end = next(iter(own.items()))
                at = self._positions.get((topic, partition), 0)
                raise TransientError(
                    f"what was written has not reached the {self._projection} projection within {OWN_S:g} s: it stands at "
                    f"{topic}-{partition} offset {at} of {end}; nothing is lost. See its lag at /status, and try again"
                )
            await self._news_of_positions()

    async def _news_of_positions(self) -> None:
        """Wait for the next answer of the projection; all who wait share it."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_again(), name=f"positions of {self._projection}")
        await asyncio.shield(self._asking)

    async def _ask_again(self) -> None:
        await asyncio.sleep(self._asked_at + _POLL_S - time.monotonic())
        self._asked_at = time.monotonic()
        self._positions = await self._ask_positions()


def partition_of_run(run_id: str, ends: Positions) -> Place:
    """Return the partition of ``runtide.runs`` that a run's events are in.

    Raises:
        TransientError: the log has no such topic yet.
    """
    count = len(_of(ends, topics.RUNS))
    if not count:
        raise TransientError(f"the log has no topic {topics.RUNS} yet; is the stack still starting?")
    return topics.RUNS, partition_of(run_id.encode(), count)


def _of(ends: Positions, topic: str) -> list[Place]:
    return [place for place in ends if place[0] == topic]
