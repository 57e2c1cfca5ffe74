"""What a subscriber has not taken yet: bounded in bytes, whatever the client does."""

import asyncio
from collections import deque


class Outbox:
    """Frames on their way from one writer to one reader."""

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes``: how much may wait; a single frame may be larger."""
        self._most_bytes = most_bytes
        self._frames: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._room, self._filled = asyncio.Event(), asyncio.Event()

    def begin(self, frame: bytes) -> None:
        """Add the first frame."""
        self._add(frame)

    async def put(self, frame: bytes, patience_s: float) -> None:
        """Add a frame.

        Raises:
            TimeoutError: there was no room for ``patience_s``.
        """
        async with asyncio.timeout(patience_s):
            while self._frames and self._held + len(frame) > self._most_bytes:
                self._room.clear()
                await self._room.wait()
        self._add(frame)

    def end(self, last: bytes = b"") -> None:
        """Add a last frame, room or not; nothing comes after it."""
        if not self._ended:
            self._add(last)
        self._ended = True

    async def take(self) -> bytes:
        """Return all frames that wait, at least one; empty at the end."""
        while not self._frames and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        taken = b"".join(self._frames)
        self._frames.clear()
        self._held = 0
        self._room.set()
        return taken

    def _add(self, frame: bytes) -> None:
        if frame and not self._ended:
            self._frames.append(frame)
            self._held += len(frame)
        self._filled.set()
