"""How much memory all fetch answers together may take, from before they are read until the socket has taken them.

A slow or idle reader's answer stays in memory until its socket takes it, so without a bound many of them could take any
amount. Who finds no room waits in line, for a second at most, and then gets an answer without records: so neither a
reader that never reads nor one that waits for its own earlier answers can hold up the others for ever.
"""

import asyncio
import threading
from collections import deque
from typing import Any, Final, NamedTuple

WAIT_SECONDS: Final = 1.0
_SHORT_SECONDS: Final = 5.0


class Held:
    """Memory that somebody holds; it is given back with the last reference, in whatever thread and way that ends."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: "FetchMemory", size: int) -> None:
        self._memory = memory
        self.size = size

    def resize(self, size: int) -> None:
        """Say what it has become in fact; a first batch may be larger than was known."""
        self._memory.give_back(self.size - size)
        self.size = size

    def __del__(self) -> None:
        self._memory.give_back(self.size)


class HeldAnswer(NamedTuple):
    """A response, and the memory that must be held until the socket has taken it."""

    response: Any
    held: Held


class _Waiting(NamedTuple):
    size: int
    turn: "asyncio.Future[Held]"


class FetchMemory:
    """The bytes that fetch answers hold. Belongs to the event loop it is made in, but for ``give_back``.

    Attributes:
        limit: bytes held at most; a single answer that is larger has to be alone.
        held: bytes held now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiting: deque[_Waiting] = deque()
        self._loop = asyncio.get_running_loop()
        self._short_until = 0.0
        self._thread = threading.get_ident()

    @property
    def was_short(self) -> bool:
        """True while somebody waits for memory, and for a while after somebody got none."""
        return bool(self._waiting) or self._loop.time() < self._short_until

    def take(self, size: int) -> Held | None:
        """Take memory if it is there and nobody waits for it."""
        return None if self._waiting or not self._fits(size) else self._take(size)

    def _take(self, size: int) -> Held:
        self.held += size
        return Held(self, size)

    async def wait(self, size: int) -> Held | None:
        """Take memory when it is our turn; None when it was not within ``WAIT_SECONDS``."""
        waiting = _Waiting(size, self._loop.create_future())
        self._waiting.append(waiting)
        try:
            await asyncio.wait([waiting.turn], timeout=WAIT_SECONDS)
        finally:
            if not waiting.turn.done():
                self._waiting.remove(waiting)
                self._short_until = self._loop.time() + _SHORT_SECONDS
                self._serve()
        return waiting.turn.result() if waiting.turn.done() else None

    def give_back(self, size: int) -> None:
        """Return memory, from any thread."""
        if threading.get_ident() == self._thread:
            self._give_back(size)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_back, size)

    def _give_back(self, size: int) -> None:
        self.held -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            waiting = self._waiting.popleft()
            waiting.turn.set_result(self._take(waiting.size))

    def _fits(self, size: int) -> bool:
        return not self.held or self.held + size <= self.limit
