"""What the gateway has opened is closed at the same time, and all of it."""

import asyncio

import pytest

from runtide_queries.server.stores import _Opened


class Waiting:
    """Closes once all others are closing, too."""

    def __init__(self, others: asyncio.Barrier, error: Exception | None = None) -> None:
        self._others, self._error = others, error
        self.closed = False

    async def close(self) -> None:
        await self._others.wait()
        self.closed = True
        if self._error is not None:
            raise self._error


async def test_they_are_closed_at_the_same_time() -> None:
    opened, all_there = _Opened(), asyncio.Barrier(3)
    kept = [opened.keep(Waiting(all_there)) for _ in range(3)]
    async with asyncio.timeout(60):
        await opened.close()
    assert all(one.closed for one in kept)


async def test_one_that_fails_keeps_none_open_and_is_told_of() -> None:
    opened, all_there = _Opened(), asyncio.Barrier(2)
    opened.keep(Waiting(all_there, OSError("gone")))
    other = opened.keep(Waiting(all_there))
    with pytest.raises(ExceptionGroup, match="did not close") as told:
        await opened.close()
    assert [str(error) for error in told.value.exceptions] == ["gone"]
    assert other.closed
