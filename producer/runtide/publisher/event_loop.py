"""The publisher thread's event loop."""

import asyncio
import socket
from typing import Any


class PublisherLoop(asyncio.SelectorEventLoop):
    """An event loop that resolves names in its own thread.

    asyncio resolves them in an executor, and executors refuse work once the interpreter is exiting, which is when a
    short script's events are sent. Only this thread waits for the resolver.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> Any:
        """Return what ``socket.getaddrinfo`` does."""
        return socket.getaddrinfo(host, port, **hints)
