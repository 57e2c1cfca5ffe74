"""Metric points as they are logged: a memory-mapped file of fixed 32-byte records.

A point is stored by one ``pack_into`` into the mapping. The pages belong to the kernel, so a point that was stored is
there whatever happens to the process, ``kill -9`` included; only losing power loses what was not synced. A record does
not cross a sector, so a power cut keeps or loses each as a whole.

File: a header page (magic, u32 format, u32 record size, u64 index of the first point, u64 capacity), then records of
i64 step, i64 timestamp (ms), f64 value, u32 zero, u32 key id, all little-endian. The key id is stored last, in one
machine store, so a record with a key id is whole; 0 means not written (a hole when later records are).
"""

import itertools
import mmap
import os
import re
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide.spool.disk import Disk
from runtide_schemas.errors import FatalError

MAGIC = b"RTTAIL\r\n"
FORMAT = 1
HEADER_BYTES = 4096
RECORD = struct.Struct("<qqdII")
RECORD_TYPE = np.dtype([("step", "<i8"), ("timestamp", "<i8"), ("value", "<f8"), ("zero", "<u4"), ("key", "<u4")])
FIRST_CAPACITY = 16_384
CAPACITY = 131_072
_HEADER = struct.Struct("<8sIIQQ")
_NAME = re.compile(r"points-(\d{6})\.tail\Z")


class TailFile:
    """One mapped tail file, ``size`` bytes.

    ``reserve()`` returns the offset of the next free record, atomically even against signal handlers; one at or past
    ``size`` means that the file is full.
    """

    __slots__ = ("capacity", "descriptor", "first", "map", "number", "path", "reserve", "size")

    def __init__(self, path: Path, descriptor: int, mapping: mmap.mmap, number: int, first: int, capacity: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.map = mapping
        self.number = number
        self.first = first
        self.capacity = capacity
        self.size = HEADER_BYTES + capacity * RECORD.size
        self.reserve = itertools.count(HEADER_BYTES, RECORD.size).__next__

    @property
    def end(self) -> int:
        """Index after the last point that fits."""
        return self.first + self.capacity

    @classmethod
    def create(cls, directory: Path, first: int, capacity: int) -> "TailFile":
        """Return a new, empty tail file whose disk blocks are reserved; ``publish`` gives it its name.

        Raises:
            OSError: no room. Reserving now means that a full disk is an error here, not a SIGBUS at some later store.
        """
        size = HEADER_BYTES + capacity * RECORD.size
        descriptor, name = tempfile.mkstemp(".unfinished", "points-", directory)
        try:
            _allocate(descriptor, size)
            os.pwrite(descriptor, _HEADER.pack(MAGIC, FORMAT, RECORD.size, first, capacity), 0)
            mapping = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
        except OSError:
            os.close(descriptor)
            Path(name).unlink()
            raise
        return cls(Path(name), descriptor, mapping, 0, first, capacity)

    def publish(self, number: int) -> None:
        """Take the name that recovery looks for; numbers follow one another."""
        self.number = number
        self.path = self.path.rename(self.path.with_name(f"points-{number:06d}.tail"))

    @classmethod
    def open(cls, path: Path) -> "TailFile | None":
        """Return an existing tail file, for reading; None when its header never reached the disk, nor its points.

        Raises:
            FatalError: it is no tail file of a format that this version knows.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            first, capacity = _read_header(path, descriptor)
            size = HEADER_BYTES + capacity * RECORD.size
            if not capacity:
                os.close(descriptor)
                return None
            if os.fstat(descriptor).st_size < size:  # made just before a power cut
                os.ftruncate(descriptor, size)
            mapping = mmap.mmap(descriptor, size)
        except (FatalError, OSError):
            os.close(descriptor)
            raise
        return cls(path, descriptor, mapping, _number(path), first, capacity)

    def read(self, start: int, most: int) -> NDArray[Any]:
        """Return a copy of at most ``most`` records from point index ``start``, up to the last written one.

        Holes are among them, with key id 0.
        """
        count = min(most, self.end - start)
        offset = HEADER_BYTES + (start - self.first) * RECORD.size
        records = np.frombuffer(self.map, RECORD_TYPE, count, offset)
        written = np.flatnonzero(records["key"])
        return records[: int(written[-1]) + 1].copy() if len(written) else records[:0].copy()

    def release_memory(self) -> None:
        """Give the mapped pages back; the kernel keeps the points and reads them again when they are sealed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.map.madvise(mmap.MADV_DONTNEED)

    def sync(self, disk: Disk, descriptor: int) -> None:
        """Make sure that the points are on the disk itself, through a descriptor of the file. Raises OSError."""
        if sys.platform != "linux":  # there fsync covers mappings, and unlike msync in CPython gives the GIL away
            self.map.flush()
        disk.sync(descriptor)

    def remove(self) -> None:
        """Delete the file: its points are all in segments."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the descriptor back; the mapping stays until nobody uses it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def tail_files(directory: Path) -> Iterator[Path]:
    """Yield the tail files of a writer, oldest first."""
    yield from sorted(path for path in directory.iterdir() if _NAME.match(path.name))


def read_tail(path: Path) -> tuple[int, NDArray[Any]]:
    """Return a tail file's first index and its records up to the last written one, without changing the file.

    Raises:
        FatalError: it is no tail file of a format that this version knows.
    """
    with path.open("rb") as file:
        first, capacity = _read_header(path, file.fileno())
        file.seek(HEADER_BYTES)
        content = file.read(capacity * RECORD.size)
    records = np.frombuffer(content[: len(content) // RECORD.size * RECORD.size], RECORD_TYPE)
    written = np.flatnonzero(records["key"])
    return first, records[: int(written[-1]) + 1] if len(written) else records[:0]


def _read_header(path: Path, descriptor: int) -> tuple[int, int]:
    """Return first index and capacity; capacity 0 when the header was never written."""
    header = os.pread(descriptor, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
    magic, version, record_size, first, capacity = _HEADER.unpack(header)
    if not any(header):
        return 0, 0
    if (magic, version, record_size) != (MAGIC, FORMAT, RECORD.size):
        raise FatalError(f"{path} is no tail file of format {FORMAT}; a newer Runtide wrote it? Use that version")
    return first, capacity


def _number(path: Path) -> int:
    match = _NAME.match(path.name)
    return int(match[1]) if match else 0


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, bytes(size))
