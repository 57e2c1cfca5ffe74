"""A consumer that does nothing but receive: what is measured through it is the broker, not the client's decoding."""

import socket
import struct
from collections.abc import Iterator

_REQUEST_HEADER = struct.Struct(">hhih")
_FETCH_KEY, _VERSION = 1, 11
_PARTITION = struct.Struct(">ihqqqii")
"""Index, error, high watermark, last stable offset, log start, aborted transactions (none), preferred replica."""
_LENGTH = struct.Struct(">i")
_BATCH_PREFIX = struct.Struct(">qi")
_BATCH_PREFIX_BYTES = 12
_LAST_OFFSET_DELTA_POSITION = 23
_HEADER_AFTER_LENGTH = 4 + 4 + 2 + 4
"""Correlation id, throttle time, error code, session id."""


class RawFetcher:
    """Fetches partitions of one topic in whole requests, one at a time, as aiokafka asks by default."""

    def __init__(self, address: str, topic: str, partitions: int, partition_bytes: int = 1 << 20) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._topic = topic.encode()
        self._partition_bytes = partition_bytes
        self._buffer = bytearray(1 << 20)
        self.offsets = dict.fromkeys(range(partitions), 0)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def drain(self, ends: dict[int, int]) -> int:
        """Fetch until every partition reached its end; return the bytes of record batches received."""
        received = 0
        while any(self.offsets[number] < end for number, end in ends.items()):
            self._socket.sendall(self._request())
            for number, records in self._partitions(self._response()):
                received += len(records)
                self.offsets[number] = _offset_after(records) if records else self.offsets[number]
        return received

    def _request(self) -> bytes:
        header = _REQUEST_HEADER.pack(_FETCH_KEY, _VERSION, 7, 1) + b"r"
        # Replica -1, at most 500 ms for at least one byte, at most 50 MiB, read uncommitted, no session.
        body = struct.pack(">iiiibii", -1, 500, 1, 50 << 20, 0, 0, -1)
        body += struct.pack(">ih", 1, len(self._topic)) + self._topic + _LENGTH.pack(len(self.offsets))
        for number, offset in self.offsets.items():
            body += struct.pack(">iiqqi", number, -1, offset, -1, self._partition_bytes)
        body += struct.pack(">ih", 0, 0)
        return _LENGTH.pack(len(header) + len(body)) + header + body

    def _response(self) -> memoryview:
        size = _LENGTH.unpack(self._exactly(_LENGTH.size))[0]
        return self._exactly(size)

    def _exactly(self, size: int) -> memoryview:
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        view = memoryview(self._buffer)[:size]
        filled = 0
        while filled < size:
            got = self._socket.recv_into(view[filled:])
            if not got:
                raise ConnectionError("the broker closed the connection")
            filled += got
        return view

    def _partitions(self, response: memoryview) -> Iterator[tuple[int, memoryview]]:
        position = _HEADER_AFTER_LENGTH + 4 + 2 + len(self._topic)
        count = _LENGTH.unpack_from(response, position)[0]
        position += _LENGTH.size
        for _ in range(count):
            number, error, *_ = _PARTITION.unpack_from(response, position)
            if error:
                raise AssertionError(f"partition {number} answered with error {error}")
            position += _PARTITION.size
            size = _LENGTH.unpack_from(response, position)[0]
            position += _LENGTH.size
            yield number, response[position : position + size]
            position += size


def _offset_after(records: memoryview) -> int:
    """Return the offset after the last whole batch."""
    position, following = 0, -1
    while position + _BATCH_PREFIX_BYTES <= len(records):
        base, length = _BATCH_PREFIX.unpack_from(records, position)
        end = position + _BATCH_PREFIX_BYTES + length
        if end > len(records):
            break
        following = base + _LENGTH.unpack_from(records, position + _LAST_OFFSET_DELTA_POSITION)[0] + 1
        position = end
    return following
