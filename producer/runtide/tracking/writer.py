"""One process's part in a run: its spool, its publisher, its end."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from runtide.connection import Connection
from runtide.publisher.lag import LagCallback, LagWatch
from runtide.publisher.pool import publish
from runtide.publisher.sign_of_life import SignOfLife
from runtide.spool.writer_spool import WriterSpool
from runtide.tracking.configuration import Configuration
from runtide.tracking.environment import user_name
from runtide.tracking.launcher import Launcher
from runtide_schemas import topics
from runtide_schemas.events.runs import TagsSet, WriterClosed, WriterOpened
from runtide_schemas.identity import now_ms

DROPPED_POINTS_TAG = "runtide.dropped_points"
_LEAST_SEALING_S = 2.0
DROPPED_EVENTS_TAG = "runtide.dropped_events"


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an end left undelivered: ``events`` in ``directory``, and why. ``interrupted``: by Ctrl-C, before its time."""

    events: int
    directory: Path
    reason: str
    interrupted: bool = False


class Writer:
    """Appends events to the spool and has them shipped. A run without an id makes requests only.

    Attributes:
        spool: what was logged.
        pid: the process that it belongs to; a forked child makes its own.
    """

    def __init__(self, configuration: Configuration, run_id: str, *, creator: bool = False) -> None:
        """Open the spool and announce the writer.

        Raises:
            FatalError: the spool cannot be made.
        """
        self._configuration = configuration
        self.pid = os.getpid()
        self.spool = WriterSpool.create(
            configuration.connection.spool,
            run_id,
            configuration.settings.limits(),
            creator=creator,
            actor=user_name(),
        )
        self._run_id = run_id
        self._closing = threading.Lock()
        self._closed = False
        self._concluded = False
        if run_id:
            self.publish(self._opened())
        self.publisher = publish(self.spool, configuration.connection)
        if run_id and self._lease:
            self.publisher.promise(self.spool, SignOfLife(run_id, self.id, self._lease))

    @property
    def id(self) -> str:
        """The writer id."""
        return self.spool.manifest.writer_id

    @property
    def _lease(self) -> float:
        """Seconds; none for one that nobody will hear before a sync."""
        configuration = self._configuration
        return 0.0 if configuration.connection.offline else configuration.settings.lease

    @property
    def connection(self) -> Connection:
        """Where the stack is."""
        return self._configuration.connection

    def publish(self, body: object, time: int | None = None) -> str:
        """Put an event in the spool and return its id; it is on its way when this returns."""
        return self.spool.append(body, time)

    def watch(self, callback: LagCallback, every: float) -> None:
        """Call back with the lag of delivery; see ``RunLog.on_delivery``."""
        self.publisher.watch(self.spool, LagWatch(callback, every))

    def flush(self, durable: bool, timeout: float) -> bool:
        """Wait until the broker has everything logged so far; see ``Run.flush``."""
        if durable:
            self.spool.sync()
        return self.publisher.delivered(self.spool, timeout)

    def conclude(self, reason: str, timeout: float = 0.0) -> bool:
        """Take no more and say so in the log, without waiting for the broker; delivery goes on until ``close``.

        While points are not sealed, the writer is not announced as closed, so that nobody takes its part for complete:
        that is False, and another call or ``runtide sync`` does it.
        """
        with self._closing:
            if not self._concluded:
                self.spool.points.close()
                sealed = self.spool.seal_all(max(timeout, _LEAST_SEALING_S))
                if sealed and self._run_id:
                    self._publish_closing(reason)
                self._concluded = sealed
            return self._concluded

    def close(self, reason: str, timeout: float) -> Leftover | None:
        """Close the writer; return what the broker does not have within ``timeout`` seconds, or None.

        What was delivered is deleted from the disk, what was not stays there; see ``conclude``. Ctrl-C ends the waiting,
        and nothing else.
        """
        deadline = time.monotonic() + timeout
        with self._closing:
            if self._closed:
                return None
            self._closed = True
        concluded = delivered = interrupted = False
        try:
            concluded = self.conclude(reason, timeout)
            delivered = concluded and self.publisher.delivered(self.spool, max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            interrupted = True
        released = self.publisher.remove(self.spool)
        leftover = None if delivered and self.spool.finished else self._leftover(concluded, interrupted)
        if released:
            self.spool.close(remove=leftover is None)
        return leftover

    def abandon_in_child(self) -> None:
        """In a forked child: this writer is the parent's."""
        self.spool.abandon_in_child()

    def _publish_closing(self, reason: str) -> None:
        points, events = self.spool.dropped
        if points or events:
            dropped = {DROPPED_POINTS_TAG: str(points), DROPPED_EVENTS_TAG: str(events)}
            self.publish(TagsSet(run_id=self._run_id, tags=dropped))
        counts = self.spool.counts
        counts[topics.RUNS] += 1
        self.publish(WriterClosed(run_id=self._run_id, writer_id=self.id, counts=counts, reason=reason, at=now_ms()))

    def _leftover(self, sealed: bool, interrupted: bool) -> Leftover:
        connection = self._configuration.connection
        away = self.publisher.trouble or f"{connection.destination} did not acknowledge in time"
        reason = "no broker is configured" if connection.offline else away
        if not sealed:
            reason = "metric points could not be written as events in time; they are in the spool's tail"
        return Leftover(self.spool.unacknowledged, self.spool.directory, reason, interrupted)

    def _opened(self) -> WriterOpened:
        manifest, launcher = self.spool.manifest, Launcher.detect()
        said = launcher.describe()
        return WriterOpened(
            run_id=self._run_id,
            writer_id=self.id,
            host=manifest.host,
            pid=manifest.pid,
            rank=launcher.rank,
            local_rank=launcher.local_rank,
            world_size=launcher.world_size,
            client=f"{manifest.client} ({said})" if said else manifest.client,
            at=manifest.created,
            lease_ms=round(self._lease * 1000),
        )
