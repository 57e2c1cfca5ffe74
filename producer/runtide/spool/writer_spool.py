"""The spool of one writer: everything it logged, until the broker has acknowledged it."""

import contextlib
import errno
import logging
import os
import shutil
import sys
import threading
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from runtide.spool import manifest as manifests
from runtide.spool.acked import read_acked, read_followed
from runtide.spool.acknowledgement import Acknowledgement
from runtide.spool.disk import Disk
from runtide.spool.durability import Durability
from runtide.spool.keys import KeyTable
from runtide.spool.limits import SpoolLimits
from runtide.spool.liveness import lock_of_a_writer_that_is_gone
from runtide.spool.manifest import Manifest
from runtide.spool.owner_state import Delivery
from runtide.spool.point_tail import PointTail
from runtide.spool.sealing import MOST_POINTS, metrics_event
from runtide.spool.segment_format import NOT_METRICS, SpooledEvent
from runtide.spool.topic_log import TopicLog
from runtide_schemas import topics
from runtide_schemas.codec import encode_body
from runtide_schemas.errors import FatalError, InvalidRequest
from runtide_schemas.identity import new_writer_id, now_ms, uuid7
from runtide_schemas.registry import schema_fingerprint
from runtide_schemas.routing import key_of, subject_of, topic_of

log = logging.getLogger(__name__)

TOPICS = (topics.RUNS, topics.METRICS, topics.REQUESTS)
MAX_BODY_BYTES = 1_000_000
"""As ``runtide.kafka.MAX_EVENT_BYTES``, without its imports: an event that no broker takes must not get a number."""
MOST_UNWRITTEN = 10_000
"""Events that wait in memory while the disk takes none."""
REQUESTS_DIRECTORY = "requests"
"""Where the spools of writers without a run lie, instead of a run id."""
_POLL_S = 0.004


class WriterSpool:
    """Appends for any thread; one thread (the publisher's) seals, reads and acknowledges.

    Attributes:
        directory: where it lies.
        manifest: whose it is.
        limits: of disk and memory.
        keys: metric keys and their ids.
        points: the tail that metric points go into.
        points_sealed: how many of them are in events; the tail's own mark also passes room that no point took.
    """

    def __init__(
        self, directory: Path, manifest: Manifest, lock: int, limits: SpoolLimits, followed: Mapping[str, int] | None
    ) -> None:
        """Use ``create`` or ``take_over``. ``followed``: what others have sent of a spool that is taken over."""
        self.directory = directory
        self.manifest = manifest
        self._lock = lock
        self.limits = limits
        self._sealing = threading.RLock()
        self._source = f"/writers/{manifest.writer_id}"
        self._actor = ""
        self._closed = False
        self._sent = False
        self._dropped_events = 0
        self._troubled = False
        self.keys = KeyTable(directory)
        disk, acked, cached = Disk(), read_acked(directory), limits.cached_bytes
        self._logs = {topic: TopicLog(directory, topic, acked.get(topic, 0), disk, cached) for topic in TOPICS}
        self._acked = Acknowledgement(directory, self._logs, followed or {})
        sealed = None if followed is None else self._logs[topics.METRICS].tail_end
        self.points = PointTail(directory, limits, lambda: self.size, sealed)
        self.points_sealed = sealed or 0
        self._durability = Durability(directory, disk, self.keys, self.points, self._logs, self._acked.get)

    @classmethod
    def create(cls, root: Path, run_id: str, limits: SpoolLimits, *, creator: bool = False, actor: str = "") -> Self:
        """Return the spool of a new writer of this process, with a new writer id.

        Raises:
            FatalError: the directory cannot be made or written.
        """
        writer_id = new_writer_id()
        directory = root / (run_id or REQUESTS_DIRECTORY) / writer_id
        try:
            directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.mkdir(mode=0o700)
            if (lock := manifests.lock(directory)) is None:
                raise FatalError(f"{directory} is locked by another process")
            manifest = Manifest.of_this_process(run_id, writer_id, creator, lock)
            manifest.write(directory)
            spool = cls(directory, manifest, lock, limits, followed=None)
        except OSError as error:
            raise FatalError(
                f"cannot make a spool in {root}: {error}. Set RUNTIDE_SPOOL to a directory with room that is yours"
            ) from error
        spool._actor = actor
        return spool

    @classmethod
    def take_over(cls, directory: Path, limits: SpoolLimits, *, ended: bool = False, log: str = "") -> Self:
        """Return the spool of a writer that is gone, ready to be read and appended to in its name.

        Args:
            directory: of the spool.
            limits: its bound.
            ended: take the caller's word that the writer has ended, where that is not known here.
            log: bootstrap address of the broker that it is for: it begins after what others have sent there.

        Raises:
            SpoolBusy: its owner lives or may live, or somebody else has taken it over.
            FatalError: it is no spool that this version can read.
        """
        manifest = Manifest.read(directory)
        lock = lock_of_a_writer_that_is_gone(directory, manifest, ended=ended)
        try:
            return cls(directory, manifest, lock, limits, read_followed(directory, log))
        except BaseException:
            os.close(lock)
            raise

    @property
    def size(self) -> int:
        """Bytes on disk, about."""
        return sum(log.size for log in self._logs.values()) + self.points.size + self._durability.size

    @property
    def dropped(self) -> tuple[int, int]:
        """Metric points and other events that did not fit and were dropped."""
        return self.points.dropped, self._dropped_events

    @property
    def counts(self) -> dict[str, int]:
        """Number of events by topic, for the topics that have any."""
        return {topic: log.next_seq for topic, log in self._logs.items() if log.next_seq}

    def append(self, body: object, time: int | None = None) -> str:
        """Number, write and keep one event; return its id. When this returns, ``kill -9`` does not lose it.

        Raises:
            InvalidRequest: the event is too large.
        """
        data = encode_body(body)
        if len(data) > MAX_BODY_BYTES:
            raise InvalidRequest(
                f"{type(body).__name__} has {len(data)} bytes; the limit is {MAX_BODY_BYTES}. Log it as an artifact"
            )
        return self._append(body, data, NOT_METRICS, time)

    def seal(self, wait: float = -1, most_events: int = sys.maxsize) -> bool:
        """Turn the tail's points into events; return False when some may be left or are not on disk.

        Args:
            wait: seconds to wait for each lock; less than 0 is for ever.
            most_events: number of events at most, so that others get their turn while points pour in.
        """
        if not self._sealing.acquire(timeout=wait):
            return False
        try:
            for _ in range(most_events):
                if self._closed or not self._write_through(topics.METRICS):
                    return False
                try:
                    chunk = self.points.next_chunk(MOST_POINTS, wait)
                except TimeoutError:
                    return False
                self._durability.note_drained()
                if chunk is None:
                    return True
                records, end = chunk
                self._append_points(records, self.points.sealed, end)
                self.points.sealed = end
                self.points_sealed = end
            return False
        finally:
            self._sealing.release()

    def seal_all(self, timeout: float) -> bool:
        """Seal until everything is sealed; return False when ``timeout`` seconds were not enough."""
        deadline = clock.monotonic() + timeout
        while not self.seal(max(0.0, deadline - clock.monotonic())):
            if self._closed or clock.monotonic() >= deadline:
                return False
            clock.sleep(_POLL_S)
        return True

    def maintain(self, delivery: Delivery = "unknown") -> None:
        """Do the housekeeping that calls should not have to wait for, and tell others how ``delivery`` is."""
        self._durability.delivery = delivery
        self.keys.maintain()
        self.points.prepare_spare()
        for topic in TOPICS:
            self._write_through(topic)
        self._durability.tidy()

    def settle(self) -> None:
        """Sync what is written, so that it may be sent. For the publisher, which does it before it sends."""
        self._durability.settle()

    def sendable(self, topic: str) -> int:
        """Return the number after the last event of a topic that may be sent; see ``durability.py``."""
        return self._durability.sendable(topic)

    def read(self, topic: str, start: int, most_bytes: int, end: int | None = None) -> list[SpooledEvent]:
        """Return the next events of a topic from number ``start`` on, below ``end``, as many as fit."""
        return self._logs[topic].read(start, most_bytes, end)

    def forget(self, topic: str, below: int) -> None:
        """Drop from memory what the publisher has taken."""
        self._logs[topic].forget(below)

    def take_back(self, topic: str, seq: int) -> None:
        """Drop the events of a topic from number ``seq`` on, which were never sent; for recovery."""
        self._logs[topic].cut(seq)

    def written(self, topic: str) -> int:
        """Return the number after the last event of a topic that is on disk."""
        return self._logs[topic].written

    def first_kept(self, topic: str) -> int:
        """Return the number of the first event of a topic that is still in the spool."""
        return self._logs[topic].first_kept

    def acked(self, topic: str) -> int:
        """Return the first number of a topic that is not acknowledged."""
        return self._acked.get(topic)

    def acknowledge(self, topic: str, next_seq: int) -> None:
        """Note that the broker has everything of a topic below ``next_seq``."""
        self._acked.advance(topic, next_seq)

    def save_acknowledged(self) -> None:
        """Write the positions, and only then delete the segments below them; when the disk fails, a later call does."""
        if not self._closed and self._acked.save():
            self.points.made_room()

    @property
    def unacknowledged(self) -> int:
        """Number of events that the broker has not acknowledged; points that are not sealed are not counted."""
        return self._acked.outstanding

    def sync(self) -> None:
        """Make sure that everything logged so far is on the disk itself (fsync), so that losing power keeps it.

        Raises:
            OSError: it is not, or an earlier sync has failed: do not count on what was logged since the last good one.
        """
        with self._sealing:  # whoever seals may hold points that have left the tail
            if self._closed:
                raise OSError(errno.EBADF, f"the spool {self.directory} is closed: the run has ended in this process")
            if self.points.deferred:
                self.seal(most_events=1)
        self._durability.sync()

    @property
    def finished(self) -> bool:
        """True when the broker has acknowledged everything in the spool, and no point waits to be sealed."""
        return self.unacknowledged == 0 and self.points.empty

    def retire(self) -> None:
        """Prepare ``close``, where nobody waits for the disk: sync the rest, or mark the spool as sent.

        For the publisher, once it has stopped shipping the spool.
        """
        if self._closed:
            return
        if self.points.closed and self.unacknowledged == 0 and self.points.is_empty(_POLL_S):
            self._durability.mark_sent()
            self._sent = True
        else:
            self._durability.settle(at_once=True)

    def close(self, remove: bool) -> None:
        """Give the files and the lock back; ``remove`` deletes the spool, if it is ``finished``."""
        with self._sealing:
            if self._closed:
                return
            remove = self._sent or (remove and self.finished)
            if remove and not self._sent:
                self._durability.mark_sent()
            self._closed = True
            self.keys.maintain()
            self.keys.close()
            self._acked.close()
            for topic_log in self._logs.values():
                topic_log.close()
            self._durability.release()
            self.points.release()
        if remove:
            shutil.rmtree(self.directory, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.directory.parent.rmdir()
        os.close(self._lock)

    def abandon_in_child(self) -> None:
        """In a forked child: let go of the lock without releasing it, so that only the parent's life counts."""
        os.close(self._lock)

    def _append_points(self, records: NDArray[Any], start: int, end: int) -> None:
        """Append the event of tail records; several events when one would be too large (thousands of long names)."""
        event = metrics_event(self.manifest.run_id, records, self.keys.names)
        if event is None:
            return
        data = encode_body(event)
        if len(data) <= MAX_BODY_BYTES or len(records) == 1:
            self._append(event, data, end, None)
            return
        half = len(records) // 2
        middle = min(start + half, end)  # points that waited in memory have no place in the tail: start is end
        self._append_points(records[:half], start, middle)
        self._append_points(records[half:], middle, end)

    def _append(self, body: object, data: bytes, tail_end: int, time: int | None) -> str:
        at = now_ms() if time is None else time
        name = type(body).__name__
        event = SpooledEvent(
            id=uuid7(at),
            type=name,
            subject=subject_of(body),
            writer=self.manifest.writer_id,
            time=at,
            source=self._source,
            actor=self._actor,
            cause="",
            key=key_of(body, self.manifest.writer_id),
            tail_end=tail_end,
            body=data,
            fingerprint=schema_fingerprint(name),
        )
        topic = topic_of(body)
        if tail_end == NOT_METRICS and not self._has_room(topic, event):
            self._drop(event)
            return event.id
        try:
            self._logs[topic].append(event)
            self._troubled = False
        except OSError as error:
            self._say_trouble(error)
        return event.id

    def _write_through(self, topic: str) -> bool:
        """Write what could not be written before; return False when it still cannot be."""
        topic_log = self._logs[topic]
        if topic_log.written == topic_log.next_seq:
            return True
        try:
            topic_log.write_through()
        except OSError as error:
            self._say_trouble(error)
            return False
        self._troubled = False
        return True

    def _has_room(self, topic: str, event: SpooledEvent) -> bool:
        waiting = self._logs[topic].next_seq - self._logs[topic].written
        return waiting < MOST_UNWRITTEN and self.size + event.size <= self.limits.most_bytes

    def _say_trouble(self, error: OSError) -> None:
        if not self._troubled:
            log.warning("cannot write to the spool %s: %s. Kept in memory and tried again", self.directory, error)
        self._troubled = True

    def _drop(self, event: SpooledEvent) -> None:
        self._dropped_events += 1
        log.warning(
            "the spool %s has reached its bound of %d bytes: %s dropped (%d events so far). Bring the broker back, or "
            "raise RUNTIDE_SPOOL_BYTES",
            self.directory,
            self.limits.most_bytes,
            event.type,
            self._dropped_events,
        )
