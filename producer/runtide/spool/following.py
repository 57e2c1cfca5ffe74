"""A spool whose writer lives, or may: what has a number is read and sent, and nothing of the owner's is touched.

Nothing is sealed, ended, locked or deleted. Only what the owner calls durable is sent (``durability.py``, rule 9), so a
number that leaves here is never given to another event. What was sent is noted in a file of the followers' own.

The directory may be a copy that was made while the writer went on, file by file: so each topic ends here where its row
of whole events does.
"""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from runtide.spool.acked import FollowedPositions, read_acked
from runtide.spool.inspection import unsealed
from runtide.spool.kept_segments import Segment
from runtide.spool.limits import SpoolLimits
from runtide.spool.manifest import Manifest
from runtide.spool.owner_state import Delivery, read_state
from runtide.spool.segment import SegmentReader, TornHeader, segment_files
from runtide.spool.segment_format import SpooledEvent
from runtide.spool.segment_row import RowReader
from runtide.spool.writer_spool import TOPICS
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.runs import WriterClosed

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Row:
    """A topic's whole events in a row.

    Attributes:
        segments: that were there.
        position: number after the last event that the log is known to have.
        numbered: number after the last whole one.
        end: number after the last one to send.
        tail_end: points of the tail that are in events.
        last: the last whole one, when there is any.
        reader: reads them.
    """

    segments: list[Segment]
    position: int
    numbered: int
    end: int
    tail_end: int
    last: SpooledEvent | None
    reader: RowReader


class FollowedSpool:
    """What a publisher ships of a spool that stays its owner's; as it was when this was made.

    Attributes:
        directory: where it lies.
        manifest: whose it is.
        limits: of memory; nothing is written.
        state: what its owner said last.
        points: metric points that are no events yet.
    """

    def __init__(self, directory: Path, log: str) -> None:
        """Look at a spool. ``log``: bootstrap address of the broker that it is sent to.

        Raises:
            FatalError: it is no spool that this version can read.
        """
        self.directory = directory
        self.manifest = Manifest.read(directory)
        self.limits = SpoolLimits()
        self.state = read_state(directory)
        files = segment_files(directory)  # after the state: what that calls durable is here, or acknowledged
        acked = read_acked(directory)  # after the files: the owner deletes what this covers, and only then
        self._followed = FollowedPositions(directory, log)
        self._rows: dict[str, _Row] = {}
        for topic in TOPICS:
            segments = [Segment(first, path, 0) for name, first, path in files if name == topic]
            position = max(acked.get(topic, 0), self._followed.get(topic))
            self._rows[topic] = _row(segments, position, self.state.durable.get(topic, 0))
        self.points = self._count_points()
        self._unsaved = False

    @property
    def points_sealed(self) -> int:
        """Points of the tail that are in events."""
        return self._rows[topics.METRICS].tail_end

    @property
    def waiting(self) -> int:
        """Number of events that have a number and are not known to be on their owner's disk."""
        return sum(max(0, row.numbered - max(row.end, row.position)) for row in self._rows.values())

    @property
    def remembers(self) -> bool:
        """False when what was sent could not be noted."""
        return not self._unsaved

    @property
    def complete(self) -> bool:
        """True when the writer has said that it has ended, and all that it counted is here or sent."""
        runs = self._rows[topics.RUNS]
        last = runs.last
        if last is None or last.type != WriterClosed.__name__ or last.seq + 1 != runs.numbered or self.points:
            return False
        body = decode(last.value())
        there = {topic: row.numbered for topic, row in self._rows.items() if row.numbered}
        vouched = self.waiting == 0 or self.manifest.lock_inode == 0  # older versions did not say
        return isinstance(body, WriterClosed) and dict(body.counts) == there and vouched

    @property
    def unacknowledged(self) -> int:
        """Number of events to send that the broker has not acknowledged."""
        return sum(max(0, row.end - self.acked(topic)) for topic, row in self._rows.items())

    @property
    def counts(self) -> dict[str, int]:
        """Number after the last event to send by topic, for the topics that have any."""
        return {topic: row.end for topic, row in self._rows.items() if row.end}

    def acked(self, topic: str) -> int:
        """Return the first number of a topic that the log is not known to have."""
        return max(self._rows[topic].position, self._followed.get(topic))

    def written(self, topic: str) -> int:
        """Return the number after the last event of a topic to send."""
        return self._rows[topic].end

    def sendable(self, topic: str) -> int:
        """Return the number after the last event of a topic to send."""
        return self._rows[topic].end

    def read(self, topic: str, start: int, most_bytes: int, end: int | None = None) -> list[SpooledEvent]:
        """Return the next events of a topic from number ``start`` on, as many as fit; none when they are gone."""
        row = self._rows[topic]
        try:
            events = row.reader.read(row.segments, start, row.end if end is None else end, most_bytes)
        except FileNotFoundError:  # its owner has had it acknowledged, and deleted it
            events = []
        if not events:
            row.end = min(row.end, start)
        return events

    def acknowledge(self, topic: str, next_seq: int) -> None:
        """Note that the broker has everything of a topic below ``next_seq``."""
        if next_seq > self.acked(topic):
            self._followed.advance(topic, next_seq)

    def save_acknowledged(self) -> None:
        """Note what was sent. Where that cannot be written, it is sent again the next time."""
        if self._unsaved:
            return
        try:
            self._followed.save()
        except OSError as error:
            self._unsaved = True
            log.info("cannot note in %s what was sent: %s. The next sync sends it again", self.directory, error)

    def retire(self) -> None:
        """Give the files back. For the publisher, or who has not handed it to one."""
        self.save_acknowledged()
        self._followed.close()
        for row in self._rows.values():
            row.reader.close()

    def seal(self, wait: float = -1, most_events: int = 0) -> bool:
        """Do nothing: only the owner makes points events."""
        del wait, most_events
        return True

    def seal_all(self, timeout: float) -> bool:
        """Do nothing: only the owner makes points events."""
        return self.seal(timeout)

    def maintain(self, delivery: Delivery = "unknown") -> None:
        """Do nothing: only the owner keeps the spool."""

    def settle(self) -> None:
        """Do nothing: only the owner can."""

    def forget(self, topic: str, below: int) -> None:
        """Do nothing: nothing is kept in memory."""

    def _count_points(self) -> int:
        try:
            return sum(len(records) for _, records in unsealed(self.directory, self.points_sealed))
        except FileNotFoundError:  # its owner has sealed them meanwhile
            return 0


def _row(segments: list[Segment], position: int, durable: int) -> _Row:
    """Read a topic's segments from the one that holds ``position`` on, up to the first tear or hole."""
    row = _Row(segments, position, position, position, 0, None, RowReader())
    begin = max((place for place, segment in enumerate(segments) if segment.first <= position), default=len(segments))
    for segment in segments[begin:]:
        if not _extend(row, segment):
            break
    row.end = max(position, min(durable, row.numbered))
    return row


def _extend(row: _Row, segment: Segment) -> bool:
    """Add a segment's events that follow; False when there is a hole before it, or it is gone."""
    try:
        reader = SegmentReader(segment.path)
    except (FileNotFoundError, TornHeader):
        return False
    with closing(reader):
        row.tail_end = max(row.tail_end, reader.tail_start)
        for event in reader:
            if event.seq > row.numbered:
                return False
            row.last = event
            row.numbered = max(row.numbered, event.seq + 1)
            row.tail_end = max(row.tail_end, event.tail_end)
    return True
