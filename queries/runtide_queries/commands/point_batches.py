"""Points of a run that come while others of it are on their way: they travel together in the next event."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from runtide.direct import Published
from runtide_schemas.events.metrics import MetricsLogged

MOST_POINTS = 5_000
"""Most points of an event that several calls share."""


class Point(NamedTuple):
    """A metric's value; ``timestamp`` in Unix milliseconds."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True, slots=True)
class Points:
    """Values of metrics in their order, a column of each field, as an event holds them: a thousand points are four lists."""

    keys: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, points: Sequence[Point]) -> Self:
        """Return some points as columns."""
        return cls(
            [point.key for point in points],
            [point.value for point in points],
            [point.timestamp for point in points],
            [point.step for point in points],
        )

    def __len__(self) -> int:
        """Return how many points there are."""
        return len(self.keys)

    def extend(self, more: Self) -> None:
        """Add points after these."""
        self.keys.extend(more.keys)
        self.values.extend(more.values)
        self.timestamps.extend(more.timestamps)
        self.steps.extend(more.steps)


class _Batch:
    __slots__ = ("actor", "arrived", "points")

    def __init__(self, actor: str) -> None:
        self.actor = actor
        self.points = Points()
        self.arrived: asyncio.Future[Published] = asyncio.get_running_loop().create_future()


Publish = Callable[[MetricsLogged, str], Awaitable[Published]]


class PointBatches:
    """One event of each run under way at a time. Belongs to one event loop."""

    def __init__(self, publish: Publish) -> None:
        """``publish`` is given an event and on whose behalf it is."""
        self._publish = publish
        self._runs: dict[str, deque[_Batch]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def add(self, run_id: str, points: Points, actor: str) -> Published:
        """Return the event that the points are in, once the log has it; raises as ``publish``."""
        batches = self._runs.get(run_id)
        if batches is None:
            batches = self._runs[run_id] = deque()
            sending = asyncio.create_task(self._send(run_id, batches), name="points")
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        if not batches or batches[-1].actor != actor or len(batches[-1].points) + len(points) > MOST_POINTS:
            batches.append(_Batch(actor))
        batch = batches[-1]
        batch.points.extend(points)
        return await asyncio.shield(batch.arrived)

    async def _send(self, run_id: str, batches: deque[_Batch]) -> None:
        while batches:
            batch = batches.popleft()
            try:
                batch.arrived.set_result(await self._publish(event_of(run_id, batch.points), batch.actor))
            except Exception as error:  # noqa: BLE001  # each caller gets it; the points that come after go on
                batch.arrived.set_exception(error)
        del self._runs[run_id]


def event_of(run_id: str, points: Points) -> MetricsLogged:
    """Return points as one event, in their order."""
    index = {key: number for number, key in enumerate(dict.fromkeys(points.keys))}
    return MetricsLogged(
        run_id=run_id,
        keys=tuple(index),
        key_index=np.array([index[key] for key in points.keys], np.int32),
        step=np.array(points.steps, np.int64),
        timestamp=np.array(points.timestamps, np.int64),
        value=np.array(points.values, np.float64),
    )
