"""What of a spool survives losing power, and the order of writes, fsyncs and deletions that makes it so.

What holds when

- a logging call has returned: the point or event is with the kernel. Ending the process in any way does not lose it;
  losing power may, until the kernel writes it back by itself (Linux: some 30 seconds) or somebody syncs it;
- ``flush(durable=True)`` has returned (True or False) or ``Durability.sync``: everything that was logged before the call
  is on the disk itself. It raises OSError when that could not be done;
- the broker has acknowledged an event: it is in the log, whatever becomes of the spool;
- the run has ended: what is not acknowledged is in the spool, normally synced, but only a durable flush says so.

Rules that make it so, each needed by ``tests/unit/test_sdk_power_loss.py``

1. An event is synced before it is sent, so that no number that has left this machine is ever given to another event.
   The publisher does that (``settle``), for all that gathered since the last time.
2. A sync covers every segment with unsynced events, not only the newest: a segment that is full keeps its descriptor
   until it is synced. Then the directory is synced, when it has a new segment.
3. A tail file is deleted when the events that its points became are synced (or acknowledged).
4. A durable flush syncs tail, keys, segments, manifest, directory, and once the directories above; in this order,
   because points may become events meanwhile (rule 3 keeps the file that they were in), and use keys.
5. A segment is deleted after ``acked`` was synced, and only if the next one holds an acknowledged event (``acked.py``).
6. A spool that is wholly delivered is marked as sent (``manifest.SENT_FILE``) and its directory synced before files go,
   so that no part of it that comes back is taken for a spool.
7. Recovery believes what is in a row up to the first tear (``kept_segments.py``), and what has a right checksum.
8. Lifecycle events are sent only when all events that were written before them are synced, and recovery takes back a
   WriterClosed that counts events which are not there: it was never sent.
9. Who only follows a spool (``following.py``) sends no event before its owner says in ``state`` that it may be sent by
   rules 1 and 8: on another machine, or from a copy, nobody else can know. The owner settles every few seconds for that.

After a failed fsync nothing of the spool is called durable again (``disk.py``): every later ``sync`` raises. Events are
sent all the same, for the broker is then the only safe place, and tail files go once the broker has their points.
"""

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from runtide.spool import manifest
from runtide.spool.disk import Disk
from runtide.spool.keys import KeyTable
from runtide.spool.owner_state import Delivery, StateNote
from runtide.spool.point_tail import PointTail
from runtide.spool.tail import TailFile
from runtide.spool.topic_log import TopicLog
from runtide_schemas import topics

log = logging.getLogger(__name__)

SETTLE_EVERY_S = 5.0
"""Seconds after which what is written is synced even if nobody here is to send it: followers wait for that."""
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Nothing was synced, but nothing has failed to be either: the next try may do it."""


class Durability:
    """Syncs one spool's files and deletes the tail files that are safe to go.

    Attributes:
        delivery: whether this process sends the spool, for those who look at it.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        keys: KeyTable,
        points: PointTail,
        logs: Mapping[str, TopicLog],
        acknowledged: Callable[[str], int],
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._keys = keys
        self._points = points
        self._logs = logs
        self._acknowledged = acknowledged
        self.delivery: Delivery = "unknown"
        self._state = StateNote(directory)
        self._drained: deque[tuple[int, TailFile]] = deque()
        self._founded = False
        self._settle_again_at = 0.0
        self._settled_at = time.monotonic()
        self._sendable_runs = 0
        self._said = False

    @property
    def size(self) -> int:
        """Bytes of the tail files that wait to be deleted."""
        return sum(file.size for _, file in list(self._drained))

    def note_drained(self) -> None:
        """Take charge of the tail files that are empty now: their points are in events below the next number."""
        for file in self._points.take_drained():
            self._drained.append((self._logs[topics.METRICS].next_seq, file))

    def sync(self) -> None:
        """Make sure that everything logged so far is on the disk itself.

        Raises:
            OSError: it is not, or an earlier sync of this spool has failed.
        """
        self._disk.check()
        if self._points.deferred:
            raise OSError(errno.EAGAIN, f"points wait in memory because {self._directory} takes no events")
        self._points.sync(self._disk)
        self._keys.sync(self._disk)
        self._sync_logs(TopicLog.sync)
        self._disk.sync_directory(self._directory)
        self._found()

    def settle(self, at_once: bool = False) -> None:
        """Bring what is written onto the disk, so that it may be sent, and delete tail files whose points it holds.

        For the publisher: waits for no lock, and takes at most half of its time unless ``at_once``. A failure is said
        once.
        """
        if not self._unsettled or (time.monotonic() < self._settle_again_at and not at_once):
            return
        began = time.monotonic()
        try:
            if self._disk.failure is None:
                self._found()
                self._sync_logs(TopicLog.settle)
        except OSError as error:
            if error.errno not in _PASSING:
                self._disk.failure = self._disk.failure or error
            self._say(error)
        self._remove_drained()
        self._settled_at = time.monotonic()
        self._settle_again_at = 2 * self._settled_at - began

    def tidy(self) -> None:
        """Settle when files wait for it, and now and then; tell what came of it."""
        overdue = time.monotonic() >= self._settled_at + SETTLE_EVERY_S
        if self._drained or overdue or any(topic_log.rotated for topic_log in self._logs.values()):
            self.settle()
        self.tell()

    def tell(self, at_once: bool = False) -> None:
        """Tell those who look at the spool what may be sent of it, and whether it is sent from here."""
        self._state.tell({topic: self.sendable(topic) for topic in self._logs}, self.delivery, at_once)

    def sendable(self, topic: str) -> int:
        """Return the number after the last event that may be sent: those that cannot change any more."""
        if self._disk.failure is not None:
            return self._logs[topic].written
        return self._sendable_runs if topic == topics.RUNS else self._logs[topic].synced

    def mark_sent(self) -> None:
        """Make sure that what comes back of this spool after losing power is not taken for one."""
        try:
            manifest.mark_sent(self._directory)
            if self._disk.failure is None:
                self._disk.sync_directory(self._directory)
        except OSError as error:
            self._say(error)

    def release(self) -> None:
        """Tell the last time, and close the files; recovery deletes the tail files that wait for it."""
        self.tell(at_once=True)
        self._state.close()
        while self._drained:
            self._drained.popleft()[1].close()

    @property
    def _unsettled(self) -> bool:
        waits = self._sendable_runs < self._logs[topics.RUNS].written
        return waits or bool(self._drained) or any(topic_log.unsynced for topic_log in self._logs.values())

    def _sync_logs(self, sync: Callable[[TopicLog], None]) -> None:
        runs = self._logs[topics.RUNS]
        others = [topic_log for topic_log in self._logs.values() if topic_log is not runs]
        sendable = runs.written
        wanted = [topic_log.written for topic_log in others]
        for topic_log in (*others, runs):
            sync(topic_log)
        if all(topic_log.synced >= count for topic_log, count in zip(others, wanted, strict=True)):
            self._sendable_runs = max(self._sendable_runs, min(sendable, runs.synced))

    def _found(self) -> None:
        """Sync, once, what makes the directory a spool that can be found."""
        if self._founded:
            return
        descriptor = os.open(self._directory / manifest.FILE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)
        self._disk.sync_directory(self._directory)
        self._disk.sync_parents(self._directory)
        self._founded = True

    def _remove_drained(self) -> None:
        safe = max(self._logs[topics.METRICS].synced, self._acknowledged(topics.METRICS))
        while self._drained and self._drained[0][0] <= safe:
            self._drained.popleft()[1].remove()
            self._points.made_room()

    def _say(self, error: OSError) -> None:
        if not self._said:
            log.warning(
                "the spool %s could not be synced: %s. Nothing in it counts as durable from now on; all of it is still "
                "sent",
                self._directory,
                error,
            )
        self._said = True
