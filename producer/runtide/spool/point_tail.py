"""The tail of one writer: a row of tail files that points go into, and come out of to be sealed."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide.spool.disk import Disk
from runtide.spool.limits import SpoolLimits
from runtide.spool.tail import CAPACITY, FIRST_CAPACITY, HEADER_BYTES, RECORD, RECORD_TYPE, TailFile, tail_files
from runtide_schemas.errors import InvalidRequest

log = logging.getLogger(__name__)

_PAUSE_S = 2.0
_pack_into = RECORD.pack_into
Point = tuple[int, int, int, float]
"""(key id, step, timestamp in ms, value)"""


class PointTail:
    """Appends points to mapped files; ``append`` is the path that has to take a microsecond.

    The lock is held while a point's record is reserved and stored, so whoever holds it as another thread sees no
    half-done point. A signal handler that logs in the middle of an ``append`` reserves the next record; in the middle
    of the change to a new file (milliseconds, once in 131,072 points, and only when no spare was ready) its points
    wait in memory until they are sealed.
    """

    def __init__(
        self, directory: Path, limits: SpoolLimits, spool_size: Callable[[], int], sealed: int | None = None
    ) -> None:
        """Open the tail of a writer.

        Args:
            directory: of the writer.
            limits: bound of the spool.
            spool_size: bytes that the whole spool takes now.
            sealed: points that are in segments already, when a dead writer's tail is taken over; None makes a new one.
        """
        self.sealed = sealed or 0
        self.dropped = 0
        self._directory = directory
        self._limits = limits
        self._spool_size = spool_size
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._spare: TailFile | None = None
        self._waited_in_vain = False
        self._closed = False
        self._rotating = False
        self._try_again_at = 0.0
        self._deferred: deque[Point] = deque()
        self._drained: list[TailFile] = []
        if sealed is None:
            self._files = [TailFile.create(directory, 0, FIRST_CAPACITY)]
            self._files[0].publish(1)
        else:
            opened = [TailFile.open(path) for path in tail_files(directory)]
            self._files = [file for file in opened if file is not None]
            self._say_what_is_missing()
        self._current = self._files[-1] if self._files else None

    @property
    def size(self) -> int:
        """Bytes on disk, but those of drained files."""
        return sum(file.size for file in self._files) + (self._spare.size if self._spare else 0)

    def append(self, key_id: int, step: int, timestamp: int, value: float) -> None:
        """Store one point. When this returns, ending the process in any way does not lose it."""
        with self._lock:
            file = self._current
            if file is not None:
                offset = file.reserve()
                if offset < file.size:
                    _pack_into(file.map, offset, step, timestamp, value, 0, key_id)
                    return
        self._append_after_rotation(file, key_id, step, timestamp, value)

    def append_all(self, points: Sequence[Point]) -> None:
        """Store several points."""
        with self._lock:
            file = self._current
            for key_id, step, timestamp, value in points:
                if file is not None and (offset := file.reserve()) < file.size:
                    _pack_into(file.map, offset, step, timestamp, value, 0, key_id)
                else:
                    self._append_after_rotation(file, key_id, step, timestamp, value)
                    file = self._current

    def next_chunk(self, most: int, wait: float = -1) -> tuple[NDArray[Any], int] | None:
        """Return records that are not sealed yet and the index after them, or None when there are none.

        Args:
            most: number of records at most.
            wait: seconds to wait for a call that is just storing a point; less than 0 waits as long as it takes.

        Raises:
            TimeoutError: the lock was not free in time, so nobody knows whether there are any.
        """
        if not self._lock.acquire(timeout=wait):
            raise TimeoutError(f"a call held the tail in {self._directory} for more than {wait:g} s")
        try:
            if self._deferred:
                points = [self._deferred.popleft() for _ in range(len(self._deferred))]
                rows = [(step, timestamp, value, 0, key_id) for key_id, step, timestamp, value in points]
                return np.array(rows, RECORD_TYPE), self.sealed
            while self._files:
                file = self._files[0]
                self.sealed = max(self.sealed, file.first)
                if self.sealed < file.end and len(records := file.read(self.sealed, most)):
                    return records, self.sealed + len(records)
                if file is self._current:
                    return None
                self.sealed = max(self.sealed, file.end)
                self._drained.append(self._files.pop(0))
            return None
        finally:
            self._lock.release()

    def take_drained(self) -> list[TailFile]:
        """Return the files that ``next_chunk`` has emptied, to be removed once their points are safe elsewhere."""
        drained, self._drained = self._drained, []
        return drained

    @property
    def deferred(self) -> bool:
        """True while points wait in memory."""
        return bool(self._deferred)

    @property
    def empty(self) -> bool:
        """True when every point that was stored is sealed."""
        return self.is_empty(-1)

    def is_empty(self, wait: float) -> bool:
        """Return ``empty``, or False when a call holds the tail for more than ``wait`` seconds; less than 0: for ever."""
        if not self._lock.acquire(timeout=wait):
            return False
        try:
            starts = [(file, max(self.sealed, file.first)) for file in self._files]
            left = any(start < file.end and len(file.read(start, file.capacity)) for file, start in starts)
            return not left and not self._deferred
        finally:
            self._lock.release()

    def prepare_spare(self) -> None:
        """Make the next file ready ahead of time, so that no call has to wait for it."""
        current = self._current
        if current is None or self._spare is not None or not self._fits(CAPACITY):
            return
        if not len(current.read(current.first + current.capacity // 2, current.capacity)):
            return
        spare = self._new_file(current)
        with self._lock:
            if spare is not None and self._current is current and not self._closed and self._spare is None:
                spare.publish(current.number + 1)
                self._spare = spare
            elif spare is not None:
                spare.remove()

    def made_room(self) -> None:
        """Wake the calls that wait for room."""
        if self._waited_in_vain or self._limits.policy == "block":
            with self._lock:
                self._room.notify_all()

    def sync(self, disk: Disk) -> None:
        """Make sure that the points are on the disk itself. Calls go on meanwhile. Raises OSError like ``Disk.sync``."""
        with self._lock:
            files = list(self._files)
            held = [os.dup(file.descriptor) for file in files]  # a file may be sealed and removed meanwhile
        try:
            for file, descriptor in zip(files, held, strict=True):
                file.sync(disk, descriptor)
        finally:
            for descriptor in held:
                os.close(descriptor)

    @property
    def closed(self) -> bool:
        """True when it takes no more points."""
        return self._closed

    def close(self) -> None:
        """Take no more points: later calls raise InvalidRequest."""
        with self._lock:
            self._closed = True
            self._current = None
            if self._spare is not None:
                self._spare.remove()
                self._spare = None

    def release(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            for file in (*self._files, *self._drained):
                file.close()

    def _say_what_is_missing(self) -> None:
        """Warn of points that are in no file: a copy was made file by file while its writer went on."""
        expected = self.sealed
        for file in self._files:
            if file.first > expected:
                log.warning(
                    "%s lacks metric points %d to %d: it is no whole copy. Copy it once more, if that can be done",
                    self._directory,
                    expected,
                    file.first - 1,
                )
            expected = max(expected, file.end)

    def _append_after_rotation(
        self, full: TailFile | None, key_id: int, step: int, timestamp: int, value: float
    ) -> None:
        with self._lock:
            if self._rotating:
                self._deferred.append((key_id, step, timestamp, value))
                return
            if self._current is full and self._spare is None and not self._closed:
                self._wait_for_room()
            self._rotating = True
            try:
                if self._current is full and not self._rotate(full):
                    self._drop()
                    return
            finally:
                self._rotating = False
        self.append(key_id, step, timestamp, value)

    def _rotate(self, full: TailFile | None) -> bool:
        """Go on to a new file; False when there is no room for one."""
        if self._closed:
            raise InvalidRequest("the run has ended in this process; log to it again through runtide.attach(run_id)")
        if self._current is not full:
            return True  # another thread did it while this one waited
        new = self._spare or (self._new_file(full) if self._fits(CAPACITY) else None)
        if new is None:
            return False
        if self._spare is None:
            new.publish(full.number + 1 if full else 1)
        self._spare = None
        self._waited_in_vain = False
        self._files.append(new)
        self._current = new
        if full is not None:
            full.release_memory()
        return True

    def _new_file(self, after: TailFile | None) -> TailFile | None:
        if time.monotonic() < self._try_again_at:
            return None
        try:
            return TailFile.create(self._directory, after.end if after else self.sealed, CAPACITY)
        except OSError as error:
            self._try_again_at = time.monotonic() + _PAUSE_S
            log.warning("no room for metric points in %s: %s", self._directory, error)
            return None

    def _fits(self, capacity: int) -> bool:
        return self._spool_size() + HEADER_BYTES + capacity * RECORD.size <= self._limits.most_bytes

    def _wait_for_room(self) -> None:
        if self._limits.policy != "block" or self._waited_in_vain or self._fits(CAPACITY):
            return
        deadline = time.monotonic() + self._limits.wait
        while not self._fits(CAPACITY) and (rest := deadline - time.monotonic()) > 0:
            self._room.wait(min(rest, 0.2))
        self._waited_in_vain = not self._fits(CAPACITY)

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1 or self.dropped % 1_000_000 == 0:
            log.warning(
                "the spool %s has reached its bound of %d bytes: %d metric points are dropped so far. Bring the broker "
                "back, or raise RUNTIDE_SPOOL_BYTES",
                self._directory,
                self._limits.most_bytes,
                self.dropped,
            )
