"""The events of one writer for one topic: numbered, on disk, and read again by the publisher."""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtide.spool.segment import (
    SegmentReader,
    SpooledEvent,
    TornHeader,
    branches,
    encode_block,
    file_header,
    segment_files,
    segment_name,
)
from runtide.spool.whole_write import write_whole

SEGMENT_BYTES = 8 * 1024 * 1024
CACHE_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class _Segment:
    first: int
    path: Path
    size: int


class TopicLog:
    """Appends events to segments and hands them out in order. Any thread may append; one thread reads.

    An event's number is its place in ``_events``: appending to a list is one atomic step, so a signal handler that
    logs in the middle of another append gets the next number, writes both, and the interrupted append may then write
    its event a second time: the same number and the same bytes, which readers skip. The reading thread never waits
    for the lock, so a signal handler that holds it may wait for the reading thread.
    """

    def __init__(self, directory: Path, topic: str) -> None:
        """Open the log of a writer's topic, after the events that are there already."""
        self.topic = topic
        self._directory = directory
        self._lock = threading.RLock()
        self._segments: list[_Segment] = []
        self._descriptor = -1
        self._sync = b""
        self._opening = False
        self._reader: SegmentReader | None = None
        self._reader_next = 0
        self.tail_end = 0
        self._written = 0
        self._recover()
        self._first = self._written
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

    def read(self, start: int, most_bytes: int) -> list[SpooledEvent]:
        """Return events that are on disk from number ``start`` on, at least one if there is one."""
        if start >= self._first:
            return _within(self._events[start - self._first : self._written - self._first], most_bytes)
        return self._read_files(list(self._segments), start, most_bytes)

    def forget(self, below: int) -> None:
        """Drop events below a number from memory, and the oldest above it while memory holds too many."""
        with self._try_lock() as locked:
            if not locked:
                return
            kept = self._cached_bytes
            count = 0
            while self._first + count < self._written and (self._first + count < below or kept > CACHE_BYTES):
                kept -= self._events[count].size
                count += 1
            del self._events[:count]
            self._first += count
            self._cached_bytes = kept

    def deletable(self, acknowledged: int) -> bool:
        """Return True when there is a segment that ``delete_below`` would delete."""
        return len(self._segments) > 1 and self._segments[1].first <= acknowledged

    def delete_below(self, acknowledged: int) -> None:
        """Delete the segments whose events are all below ``acknowledged``; the newest segment stays."""
        with self._try_lock() as locked:
            while locked and self.deletable(acknowledged):
                self._segments[0].path.unlink(missing_ok=True)
                del self._segments[0]

    def sync(self) -> None:
        """Make sure that what is written is on the disk itself."""
        with self._lock:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    @contextlib.contextmanager
    def _try_lock(self) -> Iterator[bool]:
        locked = self._lock.acquire(blocking=False)
        try:
            yield locked
        finally:
            if locked:
                self._lock.release()

    def _recover(self) -> None:
        """Take over what is on disk: cut a torn last block, drop an empty segment."""
        for topic, first, path in segment_files(self._directory):
            if topic != self.topic:
                continue
            try:
                reader = SegmentReader(path)
            except TornHeader:
                if path.stat().st_size >= len(file_header(topic, 0, bytes(16))):
                    raise  # it is damaged, not torn, and may hold events
                path.unlink()
                continue
            self.tail_end = max(self.tail_end, reader.tail_start)
            self._written = max(self._written, first)
            for event in reader:
                self._written = max(self._written, event.seq + 1)
                self.tail_end = max(self.tail_end, event.tail_end)
            reader.close()
            if self._written == first:
                path.unlink()
            else:
                os.truncate(path, reader.end)
                self._segments.append(_Segment(first, path, reader.end))

    def _write(self, event: SpooledEvent, seq: int) -> None:
        event.seq = seq
        if self._descriptor < 0 or self._segments[-1].size >= SEGMENT_BYTES:
            self._opening = True
            try:
                self._open_segment(seq)
            finally:
                self._opening = False
        block = encode_block(event, seq, branches(self.topic)[event.type], self._sync)
        write_whole(self._descriptor, block)
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
        previous, self._descriptor = self._descriptor, descriptor
        self._sync = sync
        self._segments.append(_Segment(first, path, len(header)))
        if previous >= 0:
            os.close(previous)

    def _read_files(self, segments: list[_Segment], start: int, most_bytes: int) -> list[SpooledEvent]:
        """Read from the segment that holds ``start``; what the next one holds is read by the next call."""
        holding = [segment for segment in segments if segment.first <= start]
        if not holding:
            raise FileNotFoundError(f"no segment of {self.topic} in {self._directory} holds event {start}")
        events: list[SpooledEvent] = []
        room = most_bytes
        for event in self._reader_at(holding[-1].path, start):
            if event.seq != start + len(events):
                continue
            events.append(event)
            room -= event.size
            if room <= 0:
                break
        self._reader_next = start + len(events)
        return events

    def _reader_at(self, path: Path, seq: int) -> SegmentReader:
        if self._reader is not None and self._reader.path == path and self._reader_next == seq:
            return self._reader
        if self._reader is not None:
            self._reader.close()
        self._reader = SegmentReader(path)
        return self._reader


def _within(events: list[SpooledEvent], most_bytes: int) -> list[SpooledEvent]:
    room = most_bytes
    for count, event in enumerate(events):
        room -= event.size
        if room <= 0:
            return events[: count + 1]
    return events
