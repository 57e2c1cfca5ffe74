"""Who is next where only one may go at a time: addresses take turns, so that one with many connections holds up itself.

Checking a password takes milliseconds on purpose. In one queue, a thousand connections with wrong passwords would keep
everybody else waiting until their time to log in is over.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtide_deploy.broker.errors import Overloaded


class Turns:
    """Lets one in at a time; belongs to the event loop.

    Attributes:
        most_waiting: how many of one address may wait; the next is sent away, and may come again.
    """

    def __init__(self, most_waiting: int) -> None:
        self.most_waiting = most_waiting
        self._is_taken = False
        # In the order in which addresses are next; an address is here only while somebody of it waits.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for this address's turn, and have it until the block is left.

        Raises:
            Overloaded: too many of this address wait already.
        """
        if self._is_taken:
            await self._wait(address)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, address: str) -> None:
        queue = self._waiting.get(address, deque())
        if len(queue) >= self.most_waiting:
            raise Overloaded(f"{len(queue)} logins from {address} wait to be checked already; try again later")
        ours = asyncio.get_running_loop().create_future()
        queue.append(ours)
        self._waiting[address] = queue
        try:
            await ours
        except asyncio.CancelledError:
            if ours.done() and not ours.cancelled():
                self._pass_on()
            else:
                self._leave(address, ours)
            raise

    def _leave(self, address: str, one: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(address)
        if queue is not None and one in queue:
            queue.remove(one)
            if not queue:
                del self._waiting[address]

    def _pass_on(self) -> None:
        """Let the next one in: the address that has waited longest since its last turn."""
        self._is_taken = False
        while self._waiting and not self._is_taken:
            address = next(iter(self._waiting))
            queue = self._waiting.pop(address)
            following = queue.popleft()
            if queue:
                self._waiting[address] = queue
            if not following.done():  # who goes at this very moment has not left the queue yet
                following.set_result(None)
                self._is_taken = True
