"""Segments: the files that hold a writer's numbered events. What their bytes mean: ``segment_format.py``.

Each event is appended by one ``write(2)``: whole or, when the process died or the disk was full in the middle, a torn
last block.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from runtide.spool.segment_format import FORMAT, SYNC_BYTES, SpooledEvent, file_header, read_block, read_header
from runtide_schemas.errors import FatalError

SECTOR_BYTES = 512
_NAME = re.compile(r"(\w+)-(\d{12})\.avro\Z")
_TOPIC_PREFIX = "runtide."


def segment_name(topic: str, first_seq: int) -> str:
    """Return the file name of a segment."""
    return f"{topic.removeprefix(_TOPIC_PREFIX)}-{first_seq:012d}.avro"


def segment_files(directory: Path) -> list[tuple[str, int, Path]]:
    """Return (topic, first seq, path) of a writer's segments, in order."""
    matches = ((_NAME.match(path.name), path) for path in directory.iterdir())
    return sorted((_TOPIC_PREFIX + match[1], int(match[2]), path) for match, path in matches if match)


class TornHeader(FatalError):
    """Part of the header was never written: process or machine died while the segment was made."""


class SegmentReader:
    """Reads a segment's events in file order, from the start, and stops before a torn or damaged block.

    Attributes:
        tail_start: points accounted for before its first event.
        end: offset after the last whole block read so far.
    """

    def __init__(self, path: Path) -> None:
        """Raises FatalError when it is no segment that this version can read; TornHeader when part of it is missing."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._read_header()
        except (EOFError, KeyError, ValueError) as error:
            torn = self._lacks_header()
            os.close(self._descriptor)
            if torn:
                raise TornHeader(f"{path} ends within its header, or its header has gaps") from error
            raise FatalError(f"{path} is no segment of spool format {FORMAT}: {error!r}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __iter__(self) -> Iterator[SpooledEvent]:
        """Yield the events from where the last reading stopped; may be called again when the file has grown."""
        size = os.fstat(self._descriptor).st_size
        buffer, start = b"", self.end
        while self.end < size:
            event, length = read_block(self._header, buffer, self.end - start)
            if length == 0:
                more = os.pread(self._descriptor, max(1 << 20, 2 * len(buffer)), self.end)
                if len(more) <= len(buffer) - (self.end - start):
                    return
                buffer, start = more, self.end
                continue
            self.end += length
            if event is not None:
                yield event

    def more_follows(self) -> bool:
        """Return True when a whole block may lie behind the torn or damaged one at which reading stopped."""
        rest = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, self.end)
        return self._header.sync in rest

    def _read_header(self) -> None:
        self._header = read_header(os.pread(self._descriptor, 1 << 20, 0))
        self.tail_start = self._header.tail_start
        self.end = self._header.end

    def _lacks_header(self) -> bool:
        """Return True when part of the header was never written; damage of what was written looks otherwise."""
        topic = _TOPIC_PREFIX + self.path.name.partition("-")[0]
        expected = len(file_header(topic, 0, bytes(SYNC_BYTES)))
        header = os.pread(self._descriptor, expected, 0)
        sectors = (header[start : start + SECTOR_BYTES] for start in range(0, len(header), SECTOR_BYTES))
        return len(header) < expected or not all(map(any, sectors))


def events_of(path: Path) -> Iterator[SpooledEvent]:
    """Yield the whole events of a segment; of one that is just being made, or was when its writer died, there are none."""
    try:
        reader = SegmentReader(path)
    except TornHeader:
        return
    with closing(reader):
        yield from reader
