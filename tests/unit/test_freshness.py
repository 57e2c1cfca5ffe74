"""A read waits for what was written before it: asked of the log, and of one projection."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from runtide_queries.commands import freshness
from runtide_queries.commands.freshness import Ends, Freshness, Place, Positions, partition_of_run
from runtide_schemas import topics
from runtide_schemas.errors import TransientError

RUN = "a" * 32


@dataclass
class Written:
    """An event that was acknowledged."""

    topic: str
    partition: int
    offset: int


class Log:
    """A log of two partitions each, and a projection that folds as far as it is told to."""

    def __init__(self) -> None:
        self.length: dict[Place, int] = {(topic, number): 0 for topic in freshness.FOLDED for number in range(2)}
        self.folded: dict[Place, int] = dict(self.length)
        self.questions = 0
        self.looks = 0
        self.held = asyncio.Event()
        self.held.set()

    async def ends(self, _names: Iterable[str]) -> Positions:
        self.questions += 1
        found = dict(self.length)
        await self.held.wait()
        return found

    async def positions(self) -> Positions:
        self.looks += 1
        return dict(self.folded)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def fresh(log: Log, monkeypatch: pytest.MonkeyPatch) -> Freshness:
    monkeypatch.setattr(freshness, "OTHERS_S", 60.0)
    monkeypatch.setattr(freshness, "OWN_S", 60.0)
    return Freshness("postgres", Ends(log.ends), log.positions)


async def waits(reading: "asyncio.Task[None]", log: Log) -> bool:
    """Say whether a read still waits after the projection was asked a few times."""
    seen = log.looks + 3
    while not reading.done() and log.looks < seen:  # noqa: ASYNC110 - either may come first
        await asyncio.sleep(0)
    return not reading.done()


async def test_nothing_is_waited_for_that_is_folded(log: Log, fresh: Freshness) -> None:
    for place in log.length:
        log.length[place] = log.folded[place] = 7
    for reading in (fresh.run(RUN), fresh.metrics(RUN), fresh.points(), fresh.catalogue(), fresh.everything()):
        await reading


@pytest.mark.parametrize("kind", ["run", "metrics", "points", "catalogue", "everything"])
async def test_only_what_a_read_depends_on_is_waited_for(log: Log, fresh: Freshness, kind: str) -> None:
    of_run = partition_of_run(RUN, log.length)
    metrics = {(topics.METRICS, 0), (topics.METRICS, 1)}
    depends = {
        "run": {of_run},
        "metrics": {of_run} | metrics,
        "points": metrics,
        "catalogue": {(topics.CATALOG, 0), (topics.CATALOG, 1)},
        "everything": set(log.length),
    }[kind]
    for place in log.length:
        log.length[place] = 1
        read = getattr(fresh, kind)
        reading = asyncio.create_task(read(RUN) if kind in {"run", "metrics"} else read())
        assert await waits(reading, log) == (place in depends), place
        log.folded[place] = 1
        await reading


async def test_what_others_wrote_is_not_waited_for_for_ever(
    log: Log, fresh: Freshness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "OTHERS_S", 0.05)
    log.length[topics.CATALOG, 0] = 5
    await fresh.catalogue()


async def test_what_this_gateway_wrote_is_waited_for_until_it_is_refused(
    log: Log, fresh: Freshness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "OTHERS_S", 0.05)
    monkeypatch.setattr(freshness, "OWN_S", 0.3)
    log.length[topics.CATALOG, 0] = 5
    fresh.note(Written(topics.CATALOG, 0, 4))
    with pytest.raises(TransientError, match=r"has not reached the postgres projection.*offset 0 of 5"):
        await fresh.catalogue()
    log.folded[topics.CATALOG, 0] = 5
    await fresh.catalogue()


async def test_events_of_ours_are_waited_for_without_asking_the_log(log: Log, fresh: Freshness) -> None:
    reading = asyncio.create_task(fresh.of([Written(topics.RUNS, 1, 3), Written(topics.RUNS, 0, -1)]))
    assert await waits(reading, log)
    log.folded[topics.RUNS, 1] = 4
    await reading
    assert log.questions == 0


async def test_callers_share_a_question_but_never_an_answer_from_before_they_came(log: Log, fresh: Freshness) -> None:
    log.held.clear()
    early = asyncio.create_task(fresh.catalogue())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    log.length[topics.CATALOG, 0] = 1
    late = [asyncio.create_task(fresh.catalogue()) for _ in range(20)]
    await asyncio.sleep(0)
    log.held.set()
    await early
    assert await waits(late[0], log)
    log.folded[topics.CATALOG, 0] = 1
    await asyncio.gather(*late)
    assert log.questions == 2


async def test_a_log_without_topics_is_said_to_have_none(fresh: Freshness, log: Log) -> None:
    log.length.clear()
    with pytest.raises(TransientError, match=r"no topic runtide\.runs yet"):
        await fresh.run(RUN)
