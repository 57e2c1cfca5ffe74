"""A writer's spool that is written as a whole, by somebody who knows all of its events: an importer."""

import os
from pathlib import Path

from runtide.spool.disk import Disk
from runtide.spool.manifest import Manifest, lock
from runtide.spool.owner_state import StateNote
from runtide.spool.segment_format import NOT_METRICS, SpooledEvent
from runtide.spool.topic_log import TopicLog
from runtide_schemas.codec import encode_body
from runtide_schemas.errors import FatalError
from runtide_schemas.registry import schema_fingerprint
from runtide_schemas.routing import key_of, subject_of, topic_of


class PreparedSpool:
    """Takes events with their ids and times; ``runtide sync`` sends the spool once it lies where spools lie.

    Until then nobody finds it, so nothing of it is sent before it is complete.
    """

    def __init__(self, directory: Path, run_id: str, writer_id: str, actor: str = "") -> None:
        """Make the directory, which must not exist.

        Raises:
            FatalError: it cannot be made.
        """
        self.directory = directory
        self.writer_id = writer_id
        self._actor = actor
        self._disk = Disk()
        self._logs: dict[str, TopicLog] = {}
        try:
            directory.mkdir(parents=True, mode=0o700)
            held = lock(directory)
            if held is None:
                raise FatalError(f"{directory} is locked by another process")
            self._lock = held
            Manifest.of_this_process(run_id, writer_id, creator=False, lock=held).write(directory)
        except OSError as error:
            raise FatalError(f"cannot make the spool {directory}: {error}") from error

    @property
    def counts(self) -> dict[str, int]:
        """Number of events by topic, for the topics that have any."""
        return {topic: log.next_seq for topic, log in self._logs.items()}

    def next_seq(self, body: object) -> int:
        """Return the number that an event with this body would get."""
        log = self._logs.get(topic_of(body))
        return log.next_seq if log else 0

    def append(self, body: object, event_id: str, time: int, points_end: int = NOT_METRICS) -> None:
        """Number and write an event.

        Args:
            body: the event.
            event_id: its id.
            time: Unix time in milliseconds.
            points_end: number of points so far, when it holds points.

        Raises:
            FatalError: the disk does not take it.
        """
        name, topic = type(body).__name__, topic_of(body)
        event = SpooledEvent(
            id=event_id,
            type=name,
            subject=subject_of(body),
            writer=self.writer_id,
            time=time,
            source=f"/writers/{self.writer_id}",
            actor=self._actor,
            cause="",
            key=key_of(body, self.writer_id),
            tail_end=points_end,
            body=encode_body(body),
            fingerprint=schema_fingerprint(name),
        )
        log = self._logs.get(topic)
        try:
            if log is None:
                log = self._logs[topic] = TopicLog(self.directory, topic, disk=self._disk)
            log.append(event)
        except OSError as error:
            raise FatalError(f"cannot write to {self.directory}: {error}. Make room there and import again") from error
        log.forget(log.written)

    def close(self) -> None:
        """Bring everything onto the disk itself, and let go: from now on the spool's writer is gone.

        Raises:
            FatalError: it is not there.
        """
        try:
            for log in self._logs.values():
                log.sync()
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            state = StateNote(self.directory)
            state.tell(self.counts, "none", at_once=True)  # a copy of it is then known to be whole
            state.close()
        except OSError as error:
            raise FatalError(f"cannot sync {self.directory}: {error}. Make room there and import again") from error
        finally:
            for log in self._logs.values():
                log.close()
            os.close(self._lock)
