"""A consumer is stopped to the end, whatever becomes of who asked for it: a connection that stays open is there for ever."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtide.kafka import stop_consumer


class Stopping:
    """A consumer that takes until ``go_on`` to be stopped."""

    def __init__(self) -> None:
        self.go_on, self.asked = asyncio.Event(), asyncio.Event()
        self.closed = asyncio.Event()
        self._client = SimpleNamespace(close=self._close)

    async def stop(self) -> None:
        self.asked.set()
        await self.go_on.wait()

    async def _close(self) -> None:
        self.closed.set()


async def test_it_is_closed_although_whoever_waits_is_cancelled() -> None:
    """A subscriber goes away, a deadline passes: what waits for the stop is cancelled."""
    consumer = Stopping()
    waiting = asyncio.create_task(stop_consumer(cast("Any", consumer)))
    await consumer.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    consumer.go_on.set()
    async with asyncio.timeout(20):
        await consumer.closed.wait()


async def test_an_error_of_the_stop_keeps_nobody_from_closing() -> None:
    consumer = Stopping()

    async def fail() -> None:
        raise OSError("gone")

    consumer.stop = fail  # type: ignore[method-assign]  # it fails, this once
    await stop_consumer(cast("Any", consumer))
    assert consumer.closed.is_set()
