"""Files of framed records: TensorFlow's TFRecord, which TensorBoard's event files are, and W&B's transaction log.

A TFRecord is its length (u64), the masked CRC-32C of that, the data, and the masked CRC-32C of the data, all
little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord). TensorBoard's own loaders swallow damage without
a word and compute the checksum byte by byte in Python, so the frames are read here, and only the messages by its package.

W&B's log is LevelDB's (https://github.com/google/leveldb/blob/main/doc/log_format.md) with a header of 7 bytes and a plain
CRC-32: blocks of 32 KiB of fragments, each CRC (u32), length (u16) and kind (whole, first, middle, last). The Python
package has had no reader of it since it writes it in Go.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from runtide.importing.local_files import Unreadable

MOST_RECORD_BYTES = 256 * 1024 * 1024
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK = 0xA282EAD8
_WANDB_HEADER = b":W&B\xe1\xbe\x00"
_BLOCK_BYTES = 32 * 1024
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _PART = (1, 4), (2, 3)
"""Kinds of fragments that end a record, and that do not."""


def read_tfrecords(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset after the record, data) of a file's whole records.

    Raises:
        Unreadable: after the last whole record there is something else: a truncated or a damaged one.
    """
    from crc32c import crc32c

    size = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise Unreadable(_torn(start, size))
            length, checksum = _HEADER.unpack(header)
            if _masked(crc32c(header[:8])) != checksum:
                raise Unreadable(f"damaged at byte {start:,}: the length of a record has a wrong checksum")
            if length > size - start - _HEADER.size - _CHECKSUM.size:
                raise Unreadable(_torn(start, size))
            if length > MOST_RECORD_BYTES:
                raise Unreadable(
                    f"the record at byte {start:,} has {length:,} bytes; at most {MOST_RECORD_BYTES:,} are read"
                )
            data = file.read(length)
            if _masked(crc32c(data)) != _CHECKSUM.unpack(file.read(_CHECKSUM.size))[0]:
                raise Unreadable(f"damaged at byte {start:,}: a record has a wrong checksum")
            start += _HEADER.size + length + _CHECKSUM.size
            yield start, data


def read_wandb_log(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset after the record, data) of the whole records of a ``.wandb`` file.

    Raises:
        Unreadable: it is none, or after the last whole record there is a truncated or a damaged one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_WANDB_HEADER)) != _WANDB_HEADER:
            raise Unreadable("it does not begin as W&B's transaction log does")
        position = start = len(_WANDB_HEADER)
        data = bytearray()
        while size - position >= _FRAGMENT.size:
            if (room := _BLOCK_BYTES - position % _BLOCK_BYTES) < _FRAGMENT.size:
                position += room
                file.seek(position)
                continue
            checksum, length, kind = _FRAGMENT.unpack(file.read(_FRAGMENT.size))
            fragment = file.read(length)
            if len(fragment) < length:
                raise Unreadable(_torn(start, size))
            if zlib.crc32(fragment, zlib.crc32(bytes((kind,)))) != checksum or kind not in (*_WHOLE, *_PART):
                raise Unreadable(f"damaged at byte {position:,}: a record has a wrong checksum")
            position += _FRAGMENT.size + length
            data += fragment
            if len(data) > MOST_RECORD_BYTES:
                raise Unreadable(f"the record at byte {start:,} has more than {MOST_RECORD_BYTES:,} bytes")
            if kind in _WHOLE:
                yield position, bytes(data)
                data.clear()
                start = position
        if data or position < size:
            raise Unreadable(_torn(start, size))


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF


def _torn(start: int, size: int) -> str:
    return f"it ends within the record at byte {start:,} of {size:,}: the writer was killed, or still writes"
