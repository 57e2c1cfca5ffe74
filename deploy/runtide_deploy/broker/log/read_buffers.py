"""Memory that reads are made into, used again once nobody holds a view of it.

Fresh memory for every read costs as much as the read: the kernel maps and clears it page by page, and takes it back
after the answer.
"""

import threading


class ReadBuffers:
    """Buffers for reads, at most ``keep_bytes`` of them kept; safe in any thread."""

    def __init__(self, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._kept: list[bytearray] = []
        self._used_lately: set[int] = set()
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """Return ``size`` bytes to write to; they are the caller's for as long as a view of them, or a part, exists."""
        with self._lock:
            fitting = next((buffer for buffer in self._kept if len(buffer) >= size and _is_free(buffer)), None)
            if fitting is None:
                fitting = bytearray(size)
                self._keep(fitting)
            self._used_lately.add(id(fitting))
            return memoryview(fitting)[:size]

    def _keep(self, buffer: bytearray) -> None:
        """Keep a buffer in place of smaller free ones, if there is room."""
        if len(buffer) > self._keep_bytes:
            return
        held = sum(map(len, self._kept))
        for smaller in sorted(filter(_is_free, self._kept), key=len):
            if held + len(buffer) <= self._keep_bytes or len(smaller) >= len(buffer):
                break
            self._kept.remove(smaller)
            held -= len(smaller)
        if held + len(buffer) <= self._keep_bytes:
            self._kept.append(buffer)

    def release_unused(self) -> None:
        """Give back the memory of buffers that were not used since the last call."""
        with self._lock:
            self._kept = [buffer for buffer in self._kept if id(buffer) in self._used_lately]
            self._used_lately.clear()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the buffers kept for the next reads."""
        return sum(map(len, self._kept))


def _is_free(buffer: bytearray) -> bool:
    """Return whether no view of a buffer exists: Python refuses to resize it as long as one does."""
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True
