"""Taking turns: one at a time, addresses in turn, a bound for each, and nobody stuck when somebody goes."""

import asyncio

import pytest

from runtide_deploy.broker.errors import Overloaded
from runtide_deploy.broker.security.turns import Turns


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Visits:
    """Takes turns, and leaves when told to."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.order: list[str] = []
        self.leave = asyncio.Semaphore(0)

    def start(self, address: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self._visit(address))

    async def _visit(self, address: str) -> None:
        async with self.turns.turn(address):
            self.order.append(address)
            self.inside.append(address)
            assert self.inside == [address]
            try:
                await self.leave.acquire()
            finally:
                self.inside.clear()


@pytest.fixture
async def visits() -> Visits:
    return Visits(Turns(3))


async def finish(visits: Visits, *tasks: "asyncio.Task[None]") -> list[BaseException | None]:
    for _ in tasks:
        visits.leave.release()
    return list(await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60))


async def test_addresses_take_turns(visits: Visits) -> None:
    tasks = []
    for address in "aaabbc":
        tasks.append(visits.start(address))
        await settled()
    assert await finish(visits, *tasks) == [None] * 6
    assert "".join(visits.order) == "aabcab"


async def test_too_many_of_one_address_are_sent_away_and_others_are_not(visits: Visits) -> None:
    tasks = []
    for address in "aaaaaab":
        tasks.append(visits.start(address))
        await settled()
    outcomes = await finish(visits, *tasks)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 4 + [Overloaded] * 2 + [type(None)]
    visits.leave = asyncio.Semaphore(1)
    assert await finish(visits, visits.start("a")) == [None]


@pytest.mark.parametrize("gone", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2, 3}], ids=str)
async def test_who_goes_away_holds_nobody_up(visits: Visits, gone: set[int]) -> None:
    tasks = []
    for address in "abca":
        tasks.append(visits.start(address))
        await settled()
    for number in sorted(gone):
        tasks[number].cancel()
    await settled()
    outcomes = await finish(visits, *tasks)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [n in gone for n in range(4)]
    visits.leave = asyncio.Semaphore(1)
    assert await finish(visits, visits.start("z")) == [None]


async def test_who_goes_in_the_moment_of_its_turn_passes_it_on(visits: Visits) -> None:
    async with visits.turns.turn("a"):
        second, third = visits.start("b"), visits.start("c")
        await settled()
    second.cancel()  # has been told that it is its turn, and has not run since
    assert await finish(visits, third) == [None]
    assert second.cancelled()
    assert visits.order == ["c"]
