"""Reading a topic's events by number, from segments that follow one another."""

from collections.abc import Sequence
from pathlib import Path

from runtide.spool.kept_segments import Segment
from runtide.spool.segment import SegmentReader
from runtide.spool.segment_format import SpooledEvent


class RowReader:
    """Reads in order from where it stopped without opening the file again. Belongs to one thread."""

    def __init__(self) -> None:
        self._reader: SegmentReader | None = None
        self._next = 0

    def read(self, segments: Sequence[Segment], start: int, end: int, most_bytes: int) -> list[SpooledEvent]:
        """Return events from number ``start`` on, below ``end``, of the segment that holds ``start``.

        What the next segment holds is read by the next call.

        Raises:
            FileNotFoundError: no segment holds ``start``.
        """
        holding = [segment for segment in segments if segment.first <= start]
        if not holding:
            raise FileNotFoundError(f"no segment holds event {start}")
        events: list[SpooledEvent] = []
        room = most_bytes
        for event in self._reader_at(holding[-1].path, start):
            if event.seq != start + len(events):
                continue
            events.append(event)
            room -= event.size
            if room <= 0 or event.seq + 1 >= end:
                break
        self._next = start + len(events)
        return events

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _reader_at(self, path: Path, seq: int) -> SegmentReader:
        if self._reader is not None and self._reader.path == path and self._next == seq:
            return self._reader
        self.close()
        self._reader = SegmentReader(path)
        return self._reader
