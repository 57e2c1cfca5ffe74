"""The memory of fetch answers is bounded, shared in order, and given back however an answer ends."""

import asyncio
import threading

import pytest

from runtide_deploy.broker import fetch_memory
from runtide_deploy.broker.fetch_memory import FetchMemory, Held


async def test_what_fits_is_taken_at_once_and_a_larger_answer_alone() -> None:
    memory = FetchMemory(100)
    held = [memory.take(60), memory.take(40)]
    assert all(held)
    assert memory.take(1) is None
    held.clear()
    assert memory.held == 0
    alone = memory.take(1000)
    assert alone
    assert memory.take(1) is None


async def test_those_who_wait_are_served_in_order_and_nobody_passes_them() -> None:
    memory = FetchMemory(100)
    held = [memory.take(50), memory.take(50)]
    served: list[str] = []

    async def wait(name: str, size: int) -> Held | None:
        got = await memory.wait(size)
        served.append(name)
        return got

    tasks = [asyncio.create_task(wait(name, size)) for name, size in (("large", 90), ("small", 10), ("last", 10))]
    await asyncio.sleep(0)
    held.pop()
    await asyncio.sleep(0.01)
    assert served == []
    assert memory.take(1) is None
    assert memory.was_short
    held.pop()
    await asyncio.sleep(0.01)
    assert served == ["large", "small"]
    assert memory.held == 100
    tasks.pop(0)
    await asyncio.gather(*tasks)
    assert memory.held == 20


async def test_who_waits_in_vain_gets_nothing_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_memory, "WAIT_SECONDS", 0.02)
    memory = FetchMemory(100)
    held = memory.take(50)
    large = asyncio.create_task(memory.wait(60))
    await asyncio.sleep(0)
    monkeypatch.setattr(fetch_memory, "WAIT_SECONDS", 60.0)
    small = asyncio.create_task(memory.wait(50))
    await asyncio.sleep(0)
    assert await large is None
    assert held is not None
    assert await small is not None
    assert memory.was_short


@pytest.mark.parametrize("is_served", [True, False])
async def test_who_goes_away_leaves_nothing_behind(is_served: bool) -> None:
    memory = FetchMemory(100)
    held = [memory.take(100)]
    task = asyncio.create_task(memory.wait(10))
    await asyncio.sleep(0)
    if is_served:
        held.clear()
    task.cancel()
    await asyncio.wait([task])
    del task
    assert memory.held == (0 if is_served else 100)


async def test_what_an_answer_became_is_what_counts_and_any_thread_may_drop_it() -> None:
    memory = FetchMemory(100)
    held = memory.take(70)
    assert held is not None
    held.resize(20)
    assert memory.held == 20
    held.resize(110)
    assert memory.held == 110
    last = [held]
    del held
    thread = threading.Thread(target=last.clear)
    thread.start()
    thread.join()
    await asyncio.sleep(0.01)
    assert memory.held == 0
