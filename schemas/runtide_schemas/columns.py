"""Whole columns of Avro arrays at once, with NumPy.

An Avro ``double[]`` block is contiguous little-endian; ``int[]`` and ``long[]`` are zigzag varints (Avro specification,
"Binary encoding"), which are written and read here without a Python object per item. The bytes are exactly what any
Avro writer makes of one block; readers accept any number of blocks, with or without sizes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtide_schemas.errors import UndecodableEvent
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.varints import MAX_VARINT, read_varints, write_varints

MAX_POINTS = 1_000_000
_LAST_SHIFT = 7 * (MAX_VARINT - 1)
_FEW = 48
"""Up to so many items a loop is faster than NumPy's fixed cost per call (measured: they break even at about 60)."""

Longs = NDArray[np.int64]
Doubles = NDArray[np.float64]


def encode_metrics(event: MetricsLogged) -> bytes:
    """Return the bare Avro binary of a MetricsLogged body."""
    n = len(event)
    if not n == len(event.key_index) == len(event.step) == len(event.timestamp):
        raise ValueError(
            f"columns differ in length: key_index {len(event.key_index)}, step {len(event.step)}, "
            f"timestamp {len(event.timestamp)}, value {n}"
        )
    parts = [encode_string(event.run_id), _strings(event.keys)]
    parts += [encode_longs(column) for column in (event.key_index, event.step, event.timestamp)]
    parts.append(encode_doubles(event.value))
    return b"".join(parts)


def decode_metrics(data: bytes) -> MetricsLogged:
    """Return the MetricsLogged body of bare Avro binary.

    Raises:
        UndecodableEvent: the bytes are damaged, columns differ in length, or a key index is out of range.
    """
    cursor = Cursor(data)
    run_id = cursor.string()
    keys = tuple(cursor.strings())
    key_index, step, timestamp = cursor.longs(), cursor.longs(), cursor.longs()
    value = cursor.doubles()
    if cursor.position != len(data):
        raise UndecodableEvent(f"MetricsLogged: {len(data) - cursor.position} bytes follow the record")
    return metrics_of_columns(run_id, keys, key_index, step, timestamp, value)


def metrics_of_columns(
    run_id: str, keys: tuple[str, ...], key_index: Longs, step: Longs, timestamp: Longs, value: Doubles
) -> MetricsLogged:
    """Return the event of columns that were read.

    Raises:
        UndecodableEvent: columns differ in length, or a key index is out of range.
    """
    if not len(value) == len(key_index) == len(step) == len(timestamp):
        raise UndecodableEvent("MetricsLogged: columns differ in length")
    if len(value) and int(key_index.view(np.uint64).max()) >= len(keys):  # a negative one is very large there
        raise UndecodableEvent(f"MetricsLogged: key_index outside the {len(keys)} keys")
    return MetricsLogged(
        run_id=run_id, keys=keys, key_index=key_index.astype(np.int32), step=step, timestamp=timestamp, value=value
    )


def encode_long(value: int) -> bytes:
    """Return one zigzag varint."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def encode_string(text: str) -> bytes:
    """Return an Avro string: length, then UTF-8."""
    data = text.encode()
    return encode_long(len(data)) + data


def encode_longs(column: NDArray[np.int32] | Longs) -> bytes:
    """Return an Avro array of int or long as one block."""
    n = len(column)
    if not n:
        return b"\x00"
    if n <= _FEW:
        return encode_long(n) + b"".join(map(encode_long, column.tolist())) + b"\x00"
    signed = np.ascontiguousarray(column, dtype=np.int64)
    zigzag = ((signed << 1) ^ (signed >> 63)).view(np.uint64)
    return encode_long(n) + write_varints(zigzag) + b"\x00"


def encode_doubles(column: Doubles) -> bytes:
    """Return an Avro array of double as one block."""
    if not len(column):
        return b"\x00"
    return encode_long(len(column)) + np.ascontiguousarray(column, dtype="<f8").tobytes() + b"\x00"


def _strings(texts: tuple[str, ...]) -> bytes:
    if not texts:
        return b"\x00"
    return encode_long(len(texts)) + b"".join(map(encode_string, texts)) + b"\x00"


@dataclass(slots=True)
class Cursor:
    """Reads Avro binary from a position on. Every method raises UndecodableEvent for damaged bytes."""

    data: bytes
    position: int = 0

    def long(self) -> int:
        """Return one zigzag varint."""
        data, position, shift, value = self.data, self.position, 0, 0
        try:
            while (byte := data[position]) & 0x80:
                value |= (byte & 0x7F) << shift
                position, shift = position + 1, shift + 7
                if shift > _LAST_SHIFT:
                    raise UndecodableEvent("varint longer than 10 bytes")
        except IndexError as error:
            raise UndecodableEvent(f"the bytes end within a number at {self.position}") from error
        value |= byte << shift
        if value >> 64:
            raise UndecodableEvent("varint of more than 64 bits")
        self.position = position + 1
        return (value >> 1) ^ -(value & 1)

    def string(self) -> str:
        """Return a string."""
        try:
            return str(self.take(self.long()), "utf-8")
        except UnicodeDecodeError as error:
            raise UndecodableEvent("text is not UTF-8") from error

    def strings(self) -> list[str]:
        """Return an array of strings."""
        texts: list[str] = []
        while count := self.block(len(texts)):
            texts.extend(self.string() for _ in range(count))
        return texts

    def longs(self) -> Longs:
        """Return an array of int or long."""
        blocks: list[Longs] = []
        read = 0
        while count := self.block(read):
            blocks.append(self._long_block(count))
            read += count
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.int64), *blocks])

    def doubles(self) -> Doubles:
        """Return an array of double."""
        blocks: list[Doubles] = []
        read = 0
        while count := self.block(read):
            blocks.append(np.frombuffer(self.take(8 * count), dtype="<f8"))
            read += count
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float64), *blocks])

    def block(self, read: int) -> int:
        """Return the number of items in the next block of an array or map, 0 at its end; ``read``: how many came before."""
        count = self.long()
        if count < 0:
            count = -count
            self.long()
        if read + count > MAX_POINTS:
            raise UndecodableEvent(f"array of more than {MAX_POINTS} items")
        return count

    def _long_block(self, count: int) -> Longs:
        if count <= _FEW:
            return np.array([self.long() for _ in range(count)], np.int64)
        numbers, size = read_varints(np.frombuffer(self.data, np.uint8, offset=self.position), count)
        self.position += size
        return (numbers >> np.uint64(1)).view(np.int64) ^ -(numbers & np.uint64(1)).view(np.int64)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        if size < 0 or self.position + size > len(self.data):
            raise UndecodableEvent(f"{size} bytes wanted at {self.position}, {len(self.data) - self.position} left")
        taken = self.data[self.position : self.position + size]
        self.position += size
        return taken
