"""The events of one writer for one topic: numbered, on disk, and read again by the publisher."""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from runtide.spool.disk import Disk
from runtide.spool.kept_segments import Segment, end_of, recover_segments
from runtide.spool.limits import CACHED_BYTES
from runtide.spool.segment import segment_name
from runtide.spool.segment_format import SpooledEvent, branches, encode_block, file_header
from runtide.spool.segment_row import RowReader
from runtide.spool.whole_write import write_whole

SEGMENT_BYTES = 8 * 1024 * 1024


class TopicLog:
    """Appends events to segments and hands them out in order. Any thread may append; one thread reads.

    An event's number is its place in ``_events``: appending to a list is one atomic step, so a signal handler that
    logs in the middle of another append gets the next number, writes both, and the interrupted append may then write
    its event a second time: the same number and the same bytes, which readers skip. The reading thread never waits
    for the lock, so a signal handler that holds it may wait for the reading thread.

    Attributes:
        topic: whose events.
        tail_end: points of the tail that are in events.
        synced: number after the last event that is known to be on the disk itself.
    """

    def __init__(
        self,
        directory: Path,
        topic: str,
        acknowledged: int = 0,
        disk: Disk | None = None,
        cached_bytes: int = CACHED_BYTES,
    ) -> None:
        """Open the log of a writer's topic, after the events that are there already.

        Args:
            directory: of the writer.
            topic: whose events.
            acknowledged: number after the last event that the broker is known to have; lower ones are not given again.
            disk: that the events are synced to.
            cached_bytes: of events that are kept in memory once they are written.
        """
        self.topic = topic
        self._disk = disk or Disk()
        self._most_cached = cached_bytes
        self._directory = directory
        self._lock = threading.RLock()
        self._syncing = threading.RLock()
        self._depth = 0
        self._descriptors: list[int] = []
        """Of the segments that are not known to be synced wholly, and of the one that is written to: the last."""
        self._unsynced_name = False
        self._sync = b""
        self._opening = False
        self._row = RowReader()
        kept = recover_segments(directory, topic, acknowledged, self._disk)
        self._segments = kept.segments
        self.tail_end = kept.tail_end
        self._written = self._first = self.synced = kept.written
        self._events: list[SpooledEvent] = []
        self._cached_bytes = 0

    @property
    def next_seq(self) -> int:
        """Number that the next event gets."""
        return self._first + len(self._events)

    @property
    def written(self) -> int:
        """Number after the last event that is on disk."""
        return self._written

    @property
    def first_kept(self) -> int:
        """Number of the first event that is still on disk; ``written`` when there is none."""
        return self._segments[0].first if self._segments else self._written

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, event: SpooledEvent) -> None:
        """Number an event and write it.

        Raises:
            OSError: it could not be written. It keeps its number and waits in memory for ``write_through``.
        """
        with self._lock:
            self._events.append(event)
            self._cached_bytes += event.size
            self.write_through()

    def write_through(self) -> None:
        """Write what is numbered and not on disk yet. Raises OSError like ``append``."""
        with self._lock:
            while self._written < self.next_seq and not self._opening:
                seq = self._written
                event = self._events[seq - self._first]
                self._write(event, seq)
                if self._written == seq:
                    self.tail_end = max(self.tail_end, event.tail_end)
                    self._written = seq + 1

    def read(self, start: int, most_bytes: int, end: int | None = None) -> list[SpooledEvent]:
        """Return events that are on disk from number ``start`` on, up to ``end``; at least one if there is one."""
        end = self._written if end is None else min(end, self._written)
        if start >= self._first:
            return _within(self._events[start - self._first : end - self._first], most_bytes)
        return self._row.read(list(self._segments), start, end, most_bytes)

    def forget(self, below: int) -> None:
        """Drop events below a number from memory, and the oldest above it while memory holds too many."""
        with self._try_lock() as locked:
            if not locked:
                return
            kept = self._cached_bytes
            count = 0
            while self._first + count < self._written and (self._first + count < below or kept > self._most_cached):
                kept -= self._events[count].size
                count += 1
            del self._events[:count]
            self._first += count
            self._cached_bytes = kept

    def deletable(self, acknowledged: int) -> bool:
        """Return True when there is a segment that ``delete_below`` would delete.

        The next segment must hold an acknowledged event, which was synced: numbers and tail position go on from it.
        """
        return len(self._segments) > 1 and self._segments[1].first < acknowledged

    def delete_below(self, acknowledged: int) -> None:
        """Delete the segments whose events are all below ``acknowledged``; the newest segment stays."""
        with self._try_lock() as locked:
            while locked and self.deletable(acknowledged):
                self._segments[0].path.unlink(missing_ok=True)
                del self._segments[0]

    @property
    def unsynced(self) -> bool:
        """True while there is something for ``settle`` to do."""
        return self.synced < self._written or self.rotated

    @property
    def rotated(self) -> bool:
        """True while a full segment waits to be synced and closed."""
        return len(self._descriptors) > 1

    def sync(self) -> None:
        """Make sure that every event so far is on the disk itself.

        Raises:
            OSError: they are not.
        """
        wanted = self.next_seq
        self.write_through()
        if self._written < wanted:
            raise OSError(errno.EBUSY, f"this call interrupts one that writes to {self._directory}; flush after it")
        with self._syncing:
            self._sync_files()

    def settle(self) -> None:
        """Sync what is written, without waiting for a lock; ``synced`` says how far it came. Raises OSError."""
        if self.unsynced and self._syncing.acquire(blocking=False):
            try:
                self._sync_files()
            finally:
                self._syncing.release()

    def cut(self, seq: int) -> None:
        """Take back the events from number ``seq`` on, which nobody has seen yet; for recovery."""
        while self._segments and self._segments[-1].first >= seq:
            self._segments.pop().path.unlink()
        if self._segments and seq < self._written:
            last = self._segments[-1]
            last.size = end_of(last.path, seq)
            os.truncate(last.path, last.size)
        self._written = self._first = self.synced = seq

    def close(self) -> None:
        """Close the files."""
        with self._syncing, self._lock:
            for descriptor in self._descriptors:
                os.close(descriptor)
            self._descriptors = []
            self._row.close()

    def _sync_files(self) -> None:
        """Sync without ``_lock``, so that no call waits for the disk. Only the outermost of nested calls closes files."""
        written, descriptors = self._written, list(self._descriptors)
        self._depth += 1
        try:
            for descriptor in descriptors:
                self._disk.sync(descriptor)
            if self._unsynced_name:
                self._unsynced_name = False
                self._disk.sync_directory(self._directory)
        finally:
            self._depth -= 1
        self.synced = max(self.synced, written)
        if self._depth == 0 and self._descriptors[: len(descriptors)] == descriptors:
            del self._descriptors[: len(descriptors) - 1]
            for descriptor in descriptors[:-1]:
                os.close(descriptor)

    @contextlib.contextmanager
    def _try_lock(self) -> Iterator[bool]:
        locked = self._lock.acquire(blocking=False)
        try:
            yield locked
        finally:
            if locked:
                self._lock.release()

    def _write(self, event: SpooledEvent, seq: int) -> None:
        event.seq = seq
        if not self._descriptors or self._segments[-1].size >= SEGMENT_BYTES:
            self._opening = True
            try:
                self._open_segment(seq)
            finally:
                self._opening = False
        block = encode_block(event, seq, branches(self.topic)[event.type], self._sync)
        write_whole(self._descriptors[-1], block)
        self._segments[-1].size += len(block)

    def _open_segment(self, first: int) -> None:
        path = self._directory / segment_name(self.topic, first)
        sync = os.urandom(16)
        header = file_header(self.topic, self.tail_end, sync)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            write_whole(descriptor, header)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        self._sync = sync
        if self._segments and self._segments[-1].first == first:
            self._segments.pop()  # Ctrl-C came before its descriptor was kept; it was made anew, and is empty
        self._segments.append(Segment(first, path, len(header)))
        self._unsynced_name = True
        self._descriptors.append(descriptor)


def _within(events: list[SpooledEvent], most_bytes: int) -> list[SpooledEvent]:
    room = most_bytes
    for count, event in enumerate(events):
        room -= event.size
        if room <= 0:
            return events[: count + 1]
    return events
