"""Cutting a connection's byte stream into request frames, with at most one copy of each byte."""

from collections.abc import Iterator
from typing import Final

from runtide_deploy.broker.errors import MalformedRequest

LENGTH_BYTES: Final = 4
SMALLEST_REQUEST_BYTES: Final = 10
"""Key, version, correlation id and the length of the client id."""
_BUFFER_BYTES: Final = 64 * 1024


class FrameReader:
    """The receiving side of ``asyncio.BufferedProtocol``.

    Small frames are collected in one buffer; a frame that does not fit gets a buffer of its own, which the socket
    fills directly.

    Attributes:
        max_frame_bytes: the largest frame that is taken; may change between frames.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._small = bytearray(_BUFFER_BYTES)
        self._filled = 0
        self._large: bytearray | None = None
        self._large_filled = 0

    @property
    def is_mid_frame(self) -> bool:
        """True while part of a frame has arrived."""
        return self._large is not None or self._filled > 0

    @property
    def large_bytes(self) -> int:
        """Bytes of the buffer that a large frame got for itself."""
        return 0 if self._large is None else len(self._large)

    def space(self) -> memoryview:
        """Return where the next received bytes go."""
        if self._large is not None:
            return memoryview(self._large)[self._large_filled :]
        return memoryview(self._small)[self._filled :]

    def received(self, count: int) -> Iterator[memoryview]:
        """Yield the frames that ``count`` more bytes complete, without their lengths; each owns its bytes.

        Raises:
            MalformedRequest: the stream is not Kafka's, or a frame is larger than allowed.
        """
        if self._large is None:
            self._filled += count
            yield from self._cut_small()
            return
        self._large_filled += count
        if self._large_filled == len(self._large):
            frame, self._large = self._large, None
            yield memoryview(frame).toreadonly()

    def _cut_small(self) -> Iterator[memoryview]:
        start = 0
        while self._filled - start >= LENGTH_BYTES:
            size = int.from_bytes(self._small[start : start + LENGTH_BYTES], "big", signed=True)
            self._check(size)
            end = start + LENGTH_BYTES + size
            if end > self._filled:
                if LENGTH_BYTES + size > _BUFFER_BYTES:
                    self._begin_large(start + LENGTH_BYTES, size)
                    return
                break
            yield memoryview(bytes(memoryview(self._small)[start + LENGTH_BYTES : end]))
            start = end
        self._small[: self._filled - start] = self._small[start : self._filled]
        self._filled -= start

    def _begin_large(self, start: int, size: int) -> None:
        self._large = bytearray(size)
        self._large_filled = self._filled - start
        self._large[: self._large_filled] = memoryview(self._small)[start : self._filled]
        self._filled = 0

    def _check(self, size: int) -> None:
        if size > self.max_frame_bytes:
            raise MalformedRequest(
                f"a frame of {size} bytes is announced{_guess(size)}, the limit is {self.max_frame_bytes} "
                "(RUNTIDE_BROKER_MAX_REQUEST_BYTES; less before a client has logged in)"
            )
        if size < SMALLEST_REQUEST_BYTES:
            raise MalformedRequest(f"a frame of {size} bytes is announced{_guess(size)}, too few for a request")


def _guess(size: int) -> str:
    """Name what the first four bytes look like when they are not a length."""
    first = (size & 0xFFFFFFFF).to_bytes(4, "big")
    if first in _HTTP_METHODS:
        return " (it is HTTP: this port speaks the Kafka protocol)"
    if first[:2] == b"\x16\x03":
        return " (it is TLS: this port speaks the Kafka protocol in clear)"
    return ""


_HTTP_METHODS: Final = frozenset({b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN"})
