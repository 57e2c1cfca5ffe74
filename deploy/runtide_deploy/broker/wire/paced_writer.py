"""Large answers over TLS, handed over no faster than the client takes them.

A TLS transport encrypts what it is given and passes all of it on to the socket's transport below, whose buffer it counts
for nothing: a large answer looks sent at once, while a second, encrypted copy of it waits for a client that may never read.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

PIECE_BYTES: Final = 64 * 1024
"""Beside one piece, the transports hold what theirs below takes before it says that it is full: 64 KiB."""
_PAUSES_AT_BYTES: Final = 1


class PacedWriter:
    """What a TLS transport has not been given yet.

    Attributes:
        left: bytes of it.
    """

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._pieces: deque[memoryview] = deque()
        self.left = 0

    def add(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Take bytes to send; ``push`` hands them over."""
        for chunk in chunks:
            view = memoryview(chunk)
            self._pieces.extend(view[start : start + PIECE_BYTES] for start in range(0, len(view), PIECE_BYTES))
            self.left += len(view)

    def push(self, can_write: Callable[[], bool]) -> None:
        """Hand pieces over for as long as the transport takes them; go on when it says that it does again."""
        # With a limit of 0 it would pause when it holds nothing.
        self._transport.set_write_buffer_limits(high=_PAUSES_AT_BYTES)
        while self._pieces and can_write():
            piece = self._pieces.popleft()
            self.left -= len(piece)
            self._transport.write(piece)
        if not self._pieces:
            self._transport.set_write_buffer_limits()
