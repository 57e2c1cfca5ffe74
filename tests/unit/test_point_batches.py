"""Points that come while others of their run are on their way share the next event."""

import asyncio

import pytest

from runtide.direct import Published
from runtide_queries.commands.point_batches import MOST_POINTS, Point, PointBatches, Points
from runtide_schemas.errors import TransientError
from runtide_schemas.events.metrics import MetricsLogged


class Slow:
    """A log that acknowledges when it is told to."""

    def __init__(self) -> None:
        self.events: list[tuple[MetricsLogged, str]] = []
        self.let = asyncio.Semaphore(0)
        self.failing = False

    async def publish(self, event: MetricsLogged, actor: str) -> Published:
        self.events.append((event, actor))
        await self.let.acquire()
        if self.failing:
            raise TransientError("away")
        return Published(f"e{len(self.events)}", "runtide.metrics", 0, len(self.events), 0)

    def values(self) -> list[list[float]]:
        return [list(event.value) for event, _ in self.events]


def point(value: float, count: int = 1) -> Points:
    return Points.of([Point("loss", value, 1_000, int(value))] * count)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_points_that_come_meanwhile_travel_together_in_order() -> None:
    log = Slow()
    batches = PointBatches(log.publish)
    calls = []
    for number in range(5):
        calls.append(asyncio.create_task(batches.add("a", point(number), "")))
        await settled()
    assert log.values() == [[0.0]]
    log.let.release()
    await settled()
    assert log.values() == [[0.0], [1.0, 2.0, 3.0, 4.0]]
    assert [call.done() for call in calls] == [True, False, False, False, False]
    log.let.release()
    assert [(await call).offset for call in calls] == [1, 2, 2, 2, 2]


async def test_runs_do_not_wait_for_each_other() -> None:
    log = Slow()
    batches = PointBatches(log.publish)
    calls = [asyncio.create_task(batches.add(run, point(1), "")) for run in "abc"]
    await settled()
    assert sorted(event.run_id for event, _ in log.events) == ["a", "b", "c"]
    for _ in calls:
        log.let.release()
    await asyncio.gather(*calls)


async def test_what_goes_wrong_is_told_to_those_whose_points_it_was_and_later_ones_go_on() -> None:
    log = Slow()
    batches = PointBatches(log.publish)
    first = asyncio.create_task(batches.add("a", point(1), ""))
    await settled()
    second = asyncio.create_task(batches.add("a", point(2), ""))
    await settled()
    log.failing = True
    log.let.release()
    with pytest.raises(TransientError):
        await first
    log.failing = False
    log.let.release()
    assert (await second).offset == 2
    assert log.values() == [[1.0], [2.0]]


async def test_points_of_others_and_too_many_go_in_events_of_their_own() -> None:
    log = Slow()
    batches = PointBatches(log.publish)
    calls = [asyncio.create_task(batches.add("a", point(1), ""))]
    await settled()
    for actor, count in (("ann", 2), ("ann", 3), ("bob", 1), ("bob", MOST_POINTS)):
        calls.append(asyncio.create_task(batches.add("a", point(1, count), actor)))
        await settled()
    for _ in range(4):
        log.let.release()
        await settled()
    await asyncio.gather(*calls)
    assert [(actor, len(event)) for event, actor in log.events] == [
        ("", 1),
        ("ann", 5),
        ("bob", 1),
        ("bob", MOST_POINTS),
    ]
