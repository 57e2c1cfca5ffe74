"""One segment file: positioned writes, verified reads, and the walk over its batches that everything else uses."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from runtide_deploy.broker.errors import DamagedBatch
from runtide_deploy.broker.log.batch import (
    HEADER_BYTES,
    STORED_PREFIX_BYTES,
    BatchHeader,
    check_plausible,
    read_header,
    stored_prefix,
    walk_buffer,
)
from runtide_deploy.broker.log.gaps import Gaps
from runtide_deploy.broker.log.index import NO_TIMESTAMP, SparseIndex

_SCAN_BYTES: Final = 4 << 20
_LOCATE_BYTES: Final = 64 * 1024
_REMEMBERED_READS: Final = 64
_WAIT: Final = 0
_DO_NOT_WAIT: Final = os.RWF_NOWAIT
logger = logging.getLogger(__name__)


class ReadResult(NamedTuple):
    """Whole batches of one read, the offset that follows them, and the file position that follows them."""

    records: memoryview
    next_offset: int
    end_position: int


class SegmentFile:
    """A file descriptor that closes with its last reference: reads and flushes in other threads may outlive a delete."""

    __slots__ = ("number",)

    def __init__(self, path: Path, flags: int) -> None:
        self.number = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class Segment:
    """One file of a partition's log.

    Attributes:
        base_offset: offset of its first record, also its name.
        next_offset: offset that follows its last record.
        size: bytes of valid batches; nothing beyond is ever read.
        max_timestamp: highest timestamp of its records in milliseconds, -1 when empty.
    """

    def __init__(self, path: Path, base_offset: int, file: SegmentFile) -> None:
        self.path = path
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size = 0
        self.max_timestamp = NO_TIMESTAMP
        self._first_timestamp: int | None = None
        self.index = SparseIndex()
        self.file = file
        self._read_ends: dict[int, int] = {}

    @staticmethod
    def name(base_offset: int) -> str:
        """Return the file name of the segment that starts at an offset."""
        return f"{base_offset:020d}.log"

    @classmethod
    def create(cls, folder: Path, base_offset: int) -> "Segment":
        """Make a new, empty segment file; its directory entry is the caller's to sync."""
        path = folder / cls.name(base_offset)
        return cls(path, base_offset, SegmentFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """Open an existing file; ``size`` and the index are filled by ``recovery``."""
        return cls(path, int(path.stem), SegmentFile(path, os.O_RDWR))

    def append(self, records: bytes, header: BatchHeader) -> None:
        """Write a batch at the end, as it came but for offset and leader epoch.

        Raises:
            OSError: nothing of the batch counts as written, and the file was cut back as far as the system allows.
        """
        prefix = stored_prefix(self.next_offset, header.length)
        try:
            _write_all(self.file.number, prefix, memoryview(records)[STORED_PREFIX_BYTES:], self.size)
        except OSError:
            self._cut_back()
            raise
        self.take_in(header._replace(base_offset=self.next_offset), self.size)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self.file.number, self.size)
        except OSError as error:
            logger.warning("cannot cut %s back to %d bytes after a failed write: %s", self.path, self.size, error)

    def take_in(self, header: BatchHeader, position: int) -> None:
        """Account for a batch that lies at ``position``, which is the current end."""
        self.index.note(header.base_offset, position, self.max_timestamp)
        self.next_offset = header.last_offset + 1
        self.size = position + header.size
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)

    @property
    def first_timestamp(self) -> int:
        """Highest timestamp of the first batch, which must be there."""
        if self._first_timestamp is None:
            self._first_timestamp = read_header(os.pread(self.file.number, HEADER_BYTES, 0)).max_timestamp
        return self._first_timestamp

    def walk(self, position: int, end: int) -> Iterator[tuple[int, BatchHeader]]:
        """Yield position and header of every batch in a byte range of the file, each verified.

        Raises:
            DamagedBatch: at the first batch that is not valid; those before were yielded.
        """
        wanted = _SCAN_BYTES
        while position < end:
            window = memoryview(os.pread(self.file.number, min(wanted, end - position), position))
            if len(window) < min(wanted, end - position):
                raise DamagedBatch(position, f"the file ends before byte {end}")
            used = 0
            for at, header in walk_buffer(window, position):
                yield position + at, header
                used = at + header.size
            wanted = _SCAN_BYTES if used else _size_of_cut_off(window, position, end)
            position += used

    def locate(self, offset: int) -> int:
        """Return the position of the batch that holds ``offset``, which must be below ``next_offset``.

        Raises:
            DamagedBatch: a header on the way is not plausible.
        """
        position = self._read_ends.get(offset)
        if position is not None:
            return position
        position, window, start = self.index.position_at_or_before(offset), b"", 0
        while True:
            if not start <= position <= start + len(window) - HEADER_BYTES:
                window, start = os.pread(self.file.number, _LOCATE_BYTES, position), position
                if len(window) < HEADER_BYTES:
                    raise DamagedBatch(position, f"the file ends before offset {offset}")
            header = read_header(window, position - start)
            check_plausible(header, position)
            if header.last_offset >= offset:
                return position
            position += header.size

    def read(
        self,
        position: int,
        max_bytes: int,
        offset: int,
        end_offset: int,
        gaps: Gaps,
        take: Callable[[int], memoryview],
        *,
        may_block: bool,
        may_exceed: bool,
    ) -> ReadResult:
        """Return whole, verified batches from ``position`` on, below ``end_offset``.

        If it may exceed ``max_bytes``, at least one batch is returned, however large (KIP-74), else perhaps nothing. Damage ends the read before it, so that what is valid
        stays readable and what is not is never returned. Safe in any thread: it reads only what is stored.

        Args:
            position: where the batch of ``offset`` lies.
            max_bytes: how much to return at most.
            offset: the first one wanted; from it on each batch must begin where the one before ended.
            end_offset: nothing from here on is returned.
            gaps: offsets that may be missing all the same.
            take: returns so many bytes of memory to read into.
            may_block: whether to wait for the disk.
            may_exceed: whether a first batch that is larger is returned.

        Raises:
            BlockingIOError: not all of it is in the system's cache, and it may not block.
            DamagedBatch: the batch at ``position`` is not valid.
        """
        flags = _WAIT if may_block else _DO_NOT_WAIT
        window = self._window(position, max_bytes, take, flags, may_exceed=may_exceed)
        end, next_offset = 0, offset
        try:
            for at, header in walk_buffer(window, position):
                if header.base_offset >= end_offset:
                    break
                _check_offset(header, next_offset, position + at, gaps, is_first=not end)
                end, next_offset = at + header.size, header.last_offset + 1
        except DamagedBatch:
            if not end:
                raise
        if not end and not may_exceed:
            return ReadResult(window[:0], -1, position)
        if not end:
            raise DamagedBatch(position, f"no whole batch below offset {end_offset}")
        return ReadResult(window[:end], next_offset, position + end)

    def _window(
        self, position: int, max_bytes: int, take: Callable[[int], memoryview], flags: int, *, may_exceed: bool
    ) -> memoryview:
        left = self.size - position
        window = self._read_into(take(min(max(max_bytes, HEADER_BYTES), left)), position, flags)
        is_cut = len(window) >= HEADER_BYTES and len(window) < read_header(window).size <= left
        if may_exceed and is_cut:
            window = self._read_into(take(read_header(window).size), position, flags)
        return window.toreadonly()

    def _read_into(self, memory: memoryview, position: int, flags: int) -> memoryview:
        try:
            got = os.preadv(self.file.number, [memory], position, flags)
        except OSError as error:
            # A file system that cannot tell whether it would block: as if it would.
            raise BlockingIOError(*error.args) if error.errno == errno.EOPNOTSUPP else error from error
        if flags == _DO_NOT_WAIT and got < len(memory):
            raise BlockingIOError(errno.EAGAIN, "only a part is in the system's cache")
        return memory[:got]

    def read_ahead(self, position: int, size: int) -> None:
        """Let the system fetch a range from the disk while nobody waits for it yet."""
        if position < self.size:
            os.posix_fadvise(self.file.number, position, min(size, self.size - position), os.POSIX_FADV_WILLNEED)

    def remember(self, result: ReadResult) -> None:
        """Keep where a read ended, because the same consumer will go on from there."""
        if len(self._read_ends) >= _REMEMBERED_READS:
            del self._read_ends[next(iter(self._read_ends))]
        self._read_ends[result.next_offset] = result.end_position


def _check_offset(header: BatchHeader, due: int, position: int, gaps: Gaps, *, is_first: bool) -> None:
    """Check a batch's offset, which no checksum covers: a wrong one would make consumers skip or repeat records."""
    is_due = header.base_offset <= due <= header.last_offset if is_first else header.base_offset == due
    if not is_due and not gaps.allow(due, header.base_offset):
        raise DamagedBatch(position, f"offset is {header.base_offset}, expected {due}")


def _write_all(descriptor: int, prefix: bytes, body: memoryview, position: int) -> None:
    written = os.pwritev(descriptor, (prefix, body), position)
    if written == len(prefix) + len(body):
        return
    rest = memoryview(prefix + bytes(body))
    while written < len(rest):
        written += os.pwrite(descriptor, rest[written:], position + written)


def _size_of_cut_off(window: memoryview, position: int, end: int) -> int:
    if len(window) < HEADER_BYTES:
        raise DamagedBatch(position, f"only {len(window)} bytes are left, less than a header")
    size = read_header(window).size
    if position + size > end:
        raise DamagedBatch(position, f"length field says {size} bytes, {end - position} are left")
    return size
