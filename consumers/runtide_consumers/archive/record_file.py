"""One file of an archive: the records of a range of offsets of one partition, as an Avro object container file.

Any tool that reads Avro reads it. It holds what the log held, byte for byte: a body in whichever encoding it came in, and the
headers in their order. The same records make the same bytes again, so that an interrupted command can be repeated.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.write import Writer

from runtide_consumers.decoding import Record, StoredRecord, UnreadableRecord
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import FatalError

SCHEMA = {
    "type": "record",
    "name": "ArchivedRecord",
    "namespace": "org.runtide.archive",
    "doc": "One record of a partition of the log, as it lay there.",
    "fields": [
        {"name": "offset", "type": "long", "doc": "Its offset in the partition that the file's metadata name."},
        {"name": "timestamp", "type": "long", "doc": "The record's time, Unix time in milliseconds."},
        {"name": "key", "type": ["null", "bytes"], "doc": "Record key."},
        {"name": "value", "type": ["null", "bytes"], "doc": "Record value, as the producer sent it."},
        {
            "name": "headers",
            "doc": "Record headers, in their order; names may come more than once.",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Header",
                    "fields": [
                        {"name": "name", "type": "string", "doc": "Name of the header."},
                        {"name": "value", "type": ["null", "bytes"], "doc": "Value of the header."},
                    ],
                },
            },
        },
        {
            "name": "unreadable",
            "type": ["null", "string"],
            "default": None,
            "doc": "Why the Kafka client could not parse the record, of which only the offset is known then.",
        },
    ],
}
_PARSED = fastavro.parse_schema(SCHEMA)
_BLOCK_BYTES = 256 * 1024
_READ_RECORDS = 1_000
_LEVEL = 1
"""Points are mostly doubles, of which more work takes hardly more off."""

Gap = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    Attributes:
        records: how many.
        gaps: offsets of the range that the log had no record for (removed by compaction, transaction markers), as first and
            last, inclusive, ascending.
        unreadable: records of which only the offset is known.
        first_time, last_time: least and greatest time of a record, Unix milliseconds; None without records.
        last_record: offset and digest of the last record; None without records.
    """

    records: int
    gaps: tuple[Gap, ...]
    unreadable: int
    first_time: int | None
    last_time: int | None
    last_record: tuple[int, str] | None


class Tally:
    """Counts records of a range as they pass, in their order."""

    def __init__(self, first_offset: int) -> None:
        self._next = first_offset
        self._records = self._unreadable = 0
        self._gaps: list[Gap] = []
        self._times: tuple[int, int] | None = None
        self._last: Record | None = None

    def add(self, record: Record) -> None:
        """Count a record.

        Raises:
            FatalError: it stands before the one counted last, or before the range.
        """
        if record.offset < self._next:
            raise FatalError(
                f"offset {record.offset} of {record.topic}/{record.partition} comes after {self._next - 1}"
            )
        self._pass(record.offset)
        self._next = record.offset + 1
        self._records += 1
        if isinstance(record, UnreadableRecord):
            self._unreadable += 1
        else:
            low, high = self._times or (record.timestamp, record.timestamp)
            self._times = (min(low, record.timestamp), max(high, record.timestamp))
        self._last = record

    def close(self, next_offset: int) -> Contents:
        """Return what was counted of the range that ends before an offset."""
        self._pass(next_offset)
        low, high = self._times or (None, None)
        last = None if self._last is None else (self._last.offset, record_digest(self._last))
        return Contents(self._records, tuple(self._gaps), self._unreadable, low, high, last)

    def _pass(self, offset: int) -> None:
        if offset > self._next:
            self._gaps.append((self._next, offset - 1))


class RecordFileWriter:
    """Collects the records of one file in memory, compressed."""

    def __init__(self, log_id: str, place: TopicPartition, first_offset: int) -> None:
        self.place, self.first_offset = place, first_offset
        self.raw_bytes = 0
        self._tally = Tally(first_offset)
        self._buffer = io.BytesIO()
        named = {"runtide.log": log_id, "runtide.topic": place.topic, "runtide.partition": str(place.partition)}
        marker = hashlib.sha256(repr((log_id, place, first_offset)).encode()).digest()[:16]
        self._writer = Writer(
            self._buffer,
            _PARSED,
            "deflate",
            sync_interval=_BLOCK_BYTES,
            metadata=named,
            sync_marker=marker,
            compression_level=_LEVEL,
        )

    def add(self, record: Record) -> None:
        """Append a record."""
        self._tally.add(record)
        self._writer.write(_row(record))
        self.raw_bytes += sum(len(part) for part in (record.key, record.value) if part is not None)
        self.raw_bytes += sum(len(name) + len(value or b"") for name, value in record.headers)

    def close(self, next_offset: int) -> tuple[bytes, Contents]:
        """Return the file, whose range ends before an offset, and what it holds."""
        self._writer.flush()
        return self._buffer.getvalue(), self._tally.close(next_offset)


def read_records(content: bytes, log_id: str, place: TopicPartition) -> Iterator[Sequence[Record]]:
    """Yield the records of a file, some at a time.

    Raises:
        FatalError: it is no such file, or of another partition.
    """
    try:
        reader = fastavro.reader(io.BytesIO(content), reader_schema=_PARSED)
        named = tuple(reader.metadata.get(f"runtide.{name}") for name in ("log", "topic", "partition"))
        if named != (log_id, place.topic, str(place.partition)):
            raise FatalError(f"the file says that it is of {named}")
        records: list[Record] = []
        for row in reader:
            records.append(_record(row, place))  # type: ignore[arg-type]  # fastavro's rows may be of any type
            if len(records) == _READ_RECORDS:
                yield records
                records = []
        yield records
    except (ValueError, EOFError, KeyError, TypeError, IndexError) as error:
        raise FatalError(f"the file cannot be read as Avro: {type(error).__name__}: {error}") from error


def record_digest(record: Record) -> str:
    """Return a SHA-256 of all that is kept of a record."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, _PARSED, _row(record))
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _row(record: Record) -> dict[str, Any]:
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key,
        "value": record.value,
        "headers": [{"name": name, "value": value} for name, value in record.headers],
        "unreadable": record.reason if isinstance(record, UnreadableRecord) else None,
    }


def _record(row: dict[str, Any], place: TopicPartition) -> Record:
    if row["unreadable"] is not None:
        return UnreadableRecord(*place, row["offset"], row["unreadable"])
    headers = tuple((header["name"], header["value"]) for header in row["headers"])
    return StoredRecord(*place, row["offset"], row["timestamp"], row["key"], row["value"], headers)
