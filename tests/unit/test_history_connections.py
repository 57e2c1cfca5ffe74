"""A connection to the history store that was kept is closed just as it is used again: the question is asked on another."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from runtide_queries.history import History
from runtide_schemas.errors import TransientError

ANSWER = orjson.dumps({"path": "/history/copy.duckdb", "positions": {"runtide.runs": {"0": 7}}})
REACHED = {("runtide.runs", 0): 7}


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a connection's first request, and close it when the next one comes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
    await reader.read(1)
    writer.close()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a connection when its first request comes."""
    await reader.read(1)
    writer.close()


Ask = Callable[[History], Awaitable[Any]]


async def asked_twice(serve: Callable[..., Awaitable[None]], ask: Ask) -> list[Any]:
    """Return the answers to a question that is asked two times."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with History(address, "token") as history:
            return [await ask(history) for _ in range(2)]


async def test_how_far_it_has_come_is_asked_again() -> None:
    assert await asked_twice(answer_once, lambda history: history.positions()) == [REACHED, REACHED]


async def test_a_copy_is_asked_for_again() -> None:
    for found in await asked_twice(answer_once, lambda history: history.snapshot()):
        assert found.positions == REACHED


async def test_one_that_closes_every_connection_is_away() -> None:
    with pytest.raises(TransientError, match="is away"):
        await asked_twice(never, lambda history: history.positions())
