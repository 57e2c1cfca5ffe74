"""Looking for records by time: the sparse index finds the neighbourhood, the batch itself the exact record."""

import os
from typing import NamedTuple

from runtide_deploy.broker.errors import DamagedBatch, DamagedLog
from runtide_deploy.broker.log.segment import Segment


class TimedOffset(NamedTuple):
    """A record's offset and its timestamp in milliseconds."""

    offset: int
    timestamp: int


class TimeSearch(NamedTuple):
    """The first record at or after ``timestamp`` from ``start_offset`` to ``end_offset``; may run in any thread."""

    segments: tuple[Segment, ...]
    timestamp: int
    start_offset: int
    end_offset: int

    def run(self) -> TimedOffset | None:
        """Return the record found, None when all are older.

        Raises:
            DamagedLog: a batch on the way is not valid.
        """
        for segment in self.segments:
            if segment.max_timestamp < self.timestamp:
                continue
            try:
                found = self._search(segment)
            except (DamagedBatch, OSError) as error:
                raise DamagedLog(f"{segment.path}: {error}") from error
            if found is not None:
                return found
        return None

    def _search(self, segment: Segment) -> TimedOffset | None:
        start = segment.index.position_before_timestamp(self.timestamp)
        for position, header in segment.walk(start, segment.size):
            if header.base_offset >= self.end_offset:
                return None
            if header.max_timestamp < self.timestamp or header.last_offset < self.start_offset:
                continue
            batch = os.pread(segment.file.number, header.size, position)
            found = _first_record_at(batch, self.timestamp, self.start_offset, position)
            if found is not None:
                return found
        return None


def _first_record_at(batch: bytes, timestamp: int, start_offset: int, position: int) -> TimedOffset | None:
    # Loaded here: few ever search by time, and with it comes the whole client, a tenth of the broker's start.
    from aiokafka.record.default_records import DefaultRecordBatch

    try:
        for record in DefaultRecordBatch(batch):
            if record.timestamp >= timestamp and record.offset >= start_offset:
                return TimedOffset(record.offset, record.timestamp)
    except Exception as error:  # a client wrote these bytes, and every codec has errors of its own
        raise DamagedBatch(position, f"its records cannot be decoded: {error}") from error
    return None
