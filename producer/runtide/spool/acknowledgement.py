"""What the broker has of a spool, and the deletion of the segments that it has."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from runtide.spool.acked import AckedPositions
from runtide.spool.topic_log import TopicLog
from runtide_schemas.errors import FatalError

log = logging.getLogger(__name__)

_SAVE_PAUSE_S = 1.0


class Acknowledgement:
    """Positions of one writer's topics. Belongs to the thread that sends."""

    def __init__(self, directory: Path, logs: Mapping[str, TopicLog], followed: Mapping[str, int]) -> None:
        """Begin where the broker is known to be: what is not in the spool any more, it has too.

        Args:
            directory: of the spool.
            logs: its topics.
            followed: what the broker has from others.

        Raises:
            FatalError: others have sent more than there is: giving its numbers again would lose what they stand for.
        """
        self._directory = directory
        self._logs = logs
        self._positions = AckedPositions(directory)
        self._save_again_at = 0.0
        for topic, topic_log in logs.items():
            if (sent := followed.get(topic, 0)) > topic_log.written:
                raise FatalError(
                    f"{directory} lacks events {topic_log.written} to {sent - 1} of {topic}, which were sent from it "
                    "before: it is an old or a broken copy. Copy the whole spool again"
                )
            self._positions.advance(topic, max(topic_log.first_kept, sent))

    def get(self, topic: str) -> int:
        """Return the first number of a topic that is not acknowledged."""
        return self._positions.get(topic)

    def advance(self, topic: str, next_seq: int) -> None:
        """Note that the broker has everything of a topic below ``next_seq``."""
        self._positions.advance(topic, next_seq)

    @property
    def outstanding(self) -> int:
        """Number of events that are not acknowledged."""
        return sum(topic_log.next_seq - self.get(topic) for topic, topic_log in self._logs.items())

    def save(self) -> bool:
        """Write the positions, and only then delete the segments below them; True when that changed anything.

        When the disk fails, a later call does it.
        """
        if time.monotonic() < self._save_again_at:
            return False
        try:
            saved = self._positions.save()
            deleted = self._delete()
        except OSError as error:
            self._save_again_at = time.monotonic() + _SAVE_PAUSE_S
            log.warning("cannot note in %s what the broker has: %s. Tried again", self._directory, error)
            return False
        return saved or deleted

    def close(self) -> None:
        """Write the positions the last time, without deleting anything, and close the file."""
        try:
            self._positions.save()
        except OSError as error:  # what the broker has is then sent again, and dropped by its readers
            log.warning("cannot note in %s what the broker has: %s", self._directory, error)
        self._positions.close()

    def _delete(self) -> bool:
        deletable = [topic for topic, topic_log in self._logs.items() if topic_log.deletable(self.get(topic))]
        if deletable:
            self._positions.sync()
        for topic in deletable:
            self._logs[topic].delete_below(self.get(topic))
        return bool(deletable)
