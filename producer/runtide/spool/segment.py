"""Segments: Avro object container files of numbered events.

Each event is one block of one record, appended by one ``write(2)``: whole or, when the process died or the disk was
full in the middle, a torn last block. A power cut can tear any block that was not synced, in its middle too, so the
record's first field is a checksum of the rest (since format 2). The record's last field is the event body as a union of the topic's types, so
fastavro, DuckDB and any other Avro reader read a segment as it is, and our own reader takes the body's bytes to the
broker without decoding them.
"""

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint, to_parsing_canonical_form

from runtide_schemas.codec import MARKER
from runtide_schemas.columns import encode_long, encode_string
from runtide_schemas.envelope import Envelope, Headers, to_headers
from runtide_schemas.errors import FatalError
from runtide_schemas.registry import EVENT_TYPES, published_schema

FORMAT = "2"
READABLE_FORMATS = {"1", "2"}
"""Format 1 had no checksum."""
SECTOR_BYTES = 512
NOT_METRICS = -1
ENVELOPE_TEXTS = ("id", "type", "subject", "writer", "source", "actor", "cause")
_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_NAME = re.compile(r"(\w+)-(\d{12})\.avro\Z")
_TOPIC_PREFIX = "runtide."


@dataclass(slots=True, kw_only=True)
class SpooledEvent:
    """An event in the spool, its body encoded.

    Attributes:
        seq: number in its writer's sequence of the topic; -1 until it is written.
        id, type, subject, writer, time, source, actor, cause: the envelope.
        key: record key, or None.
        tail_end: index after the last tail point that this event accounts for; -1 for events that are no points.
        body: bare Avro binary of the body.
        fingerprint: CRC-64-AVRO of the schema that the body was written with, little-endian.
    """

    id: str
    type: str
    subject: str
    writer: str
    time: int
    source: str
    actor: str
    cause: str
    key: bytes | None
    tail_end: int
    body: bytes
    fingerprint: bytes
    seq: int = -1

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return len(self.body) + 400

    def headers(self) -> Headers:
        """Return the record headers."""
        return to_headers(
            Envelope(
                id=self.id,
                type=self.type,
                subject=self.subject,
                writer=self.writer,
                seq=self.seq,
                time=self.time,
                source=self.source,
                actor=self.actor,
                cause=self.cause,
            )
        )

    def value(self) -> bytes:
        """Return the record value: single-object encoding."""
        return MARKER + self.fingerprint + self.body


@cache
def segment_schema(topic: str) -> dict[str, Any]:
    """Return the Avro schema of a topic's segments."""
    branches = [published_schema(name) for name in sorted(EVENT_TYPES) if EVENT_TYPES[name].topic == topic]
    return {
        "type": "record",
        "name": "SpooledEvent",
        "namespace": "org.runtide.spool",
        "doc": "An event in a writer's spool: its envelope, and its body last.",
        "fields": [
            {"name": "checksum", "type": "long", "doc": "CRC-32 of the record's bytes after this field."},
            {"name": "seq", "type": "long", "doc": "Number in the writer's sequence of this topic, from 0."},
            {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "When."},
            *({"name": name, "type": "string", "doc": f"Envelope: {name}."} for name in ENVELOPE_TEXTS),
            {"name": "key", "type": ["null", "bytes"], "doc": "Record key."},
            {"name": "tail_end", "type": "long", "doc": "Points of the tail accounted for so far; -1: no metrics."},
            {"name": "body", "type": branches, "doc": "The event, of the type that `type` names."},
        ],
    }


@cache
def branches(topic: str) -> Mapping[str, int]:
    """Return the place of each event type in the union of a topic's segments."""
    names = sorted(name for name, event_type in EVENT_TYPES.items() if event_type.topic == topic)
    return {name: place for place, name in enumerate(names)}


def segment_name(topic: str, first_seq: int) -> str:
    """Return the file name of a segment."""
    return f"{topic.removeprefix(_TOPIC_PREFIX)}-{first_seq:012d}.avro"


def segment_files(directory: Path) -> list[tuple[str, int, Path]]:
    """Return (topic, first seq, path) of a writer's segments, in order."""
    matches = ((_NAME.match(path.name), path) for path in directory.iterdir())
    return sorted((_TOPIC_PREFIX + match[1], int(match[2]), path) for match, path in matches if match)


def file_header(topic: str, tail_start: int, sync: bytes) -> bytes:
    """Return the header of a segment. ``tail_start``: points accounted for before its first event."""
    metadata = {
        "avro.schema": _schema_json(topic),
        "avro.codec": b"null",
        "runtide.spool": FORMAT.encode(),
        "runtide.tail_start": str(tail_start).encode(),
    }
    pairs = b"".join(encode_string(key) + encode_long(len(value)) + value for key, value in metadata.items())
    return _MAGIC + encode_long(len(metadata)) + pairs + b"\x00" + sync


def encode_block(event: SpooledEvent, seq: int, place: int, sync: bytes) -> bytes:
    """Return the block of an event that gets the number ``seq``."""
    texts = [getattr(event, name) for name in ENVELOPE_TEXTS]
    key = encode_long(0) if event.key is None else encode_long(1) + encode_long(len(event.key)) + event.key
    rest = b"".join(
        (
            encode_long(seq),
            encode_long(event.time),
            *map(encode_string, texts),
            key,
            encode_long(event.tail_end),
            encode_long(place),
            event.body,
        )
    )
    checksum = encode_long(zlib.crc32(rest))
    return b"".join((encode_long(1), encode_long(len(checksum) + len(rest)), checksum, rest, sync))


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
            event, length = self._block(buffer, self.end - start)
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
        return self._sync in rest

    def _read_header(self) -> None:
        cursor = _Bytes(os.pread(self._descriptor, 1 << 20, 0))
        if cursor.take(len(_MAGIC)) != _MAGIC:
            raise ValueError("no Avro object container file")
        metadata: dict[str, bytes] = {}
        while count := cursor.long():
            for _ in range(count):
                key = cursor.data().decode()
                metadata[key] = cursor.data()
        self._sync = cursor.take(_SYNC_BYTES)
        if (version := metadata["runtide.spool"].decode()) not in READABLE_FORMATS:
            raise ValueError(f"spool format {version}")
        self._checksummed = version != "1"
        self.tail_start = int(metadata["runtide.tail_start"])
        self._fingerprints = _fingerprints(metadata["avro.schema"])
        self.end = cursor.position

    def _lacks_header(self) -> bool:
        """Return True when part of the header was never written; damage of what was written looks otherwise."""
        topic = _TOPIC_PREFIX + self.path.name.partition("-")[0]
        expected = len(file_header(topic, 0, bytes(_SYNC_BYTES)))
        header = os.pread(self._descriptor, expected, 0)
        sectors = (header[start : start + SECTOR_BYTES] for start in range(0, len(header), SECTOR_BYTES))
        return len(header) < expected or not all(map(any, sectors))

    def _block(self, buffer: bytes, offset: int) -> tuple[SpooledEvent | None, int]:
        """Return the event of the block at ``offset`` and the block's length; length 0 when it is not whole."""
        cursor = _Bytes(buffer, offset)
        try:
            count, record = cursor.long(), cursor.data()
            whole = count == 1 and cursor.take(_SYNC_BYTES) == self._sync
            return (self._event(record), cursor.position - offset) if whole else (None, 0)
        except (EOFError, ValueError, IndexError):
            return None, 0

    def _event(self, record: bytes) -> SpooledEvent:
        cursor = _Bytes(record)
        if self._checksummed and cursor.long() != zlib.crc32(memoryview(record)[cursor.position :]):
            raise ValueError("damaged event")
        seq, time = cursor.long(), cursor.long()
        identifier, kind, subject, writer, source, actor, cause = (cursor.data().decode() for _ in range(7))
        key = cursor.data() if cursor.long() else None
        tail_end = cursor.long()
        place = cursor.long()
        return SpooledEvent(
            seq=seq,
            time=time,
            id=identifier,
            type=kind,
            subject=subject,
            writer=writer,
            source=source,
            actor=actor,
            cause=cause,
            key=key,
            tail_end=tail_end,
            body=record[cursor.position :],
            fingerprint=self._fingerprints[place],
        )


def events_of(path: Path) -> Iterator[SpooledEvent]:
    """Yield the whole events of a segment."""
    with closing(SegmentReader(path)) as reader:
        yield from reader


@cache
def _schema_json(topic: str) -> bytes:
    return json.dumps(segment_schema(topic), separators=(",", ":")).encode()


@cache
def _fingerprints(schema: bytes) -> tuple[bytes, ...]:
    """Return the fingerprint of each branch of the body's union: of the schemas that the file was written with."""
    branches_of_body = json.loads(schema)["fields"][-1]["type"]
    forms = map(to_parsing_canonical_form, branches_of_body)
    return tuple(bytes.fromhex(fingerprint(form, "CRC-64-AVRO")) for form in forms)


class _Bytes:
    """Reads Avro primitives from bytes. Raises EOFError when they end early."""

    __slots__ = ("_buffer", "position")

    def __init__(self, buffer: bytes, position: int = 0) -> None:
        self._buffer = buffer
        self.position = position

    def take(self, size: int) -> bytes:
        taken = self._buffer[self.position : self.position + size]
        if size < 0 or len(taken) < size:
            raise EOFError(f"{size} bytes wanted at {self.position}")
        self.position += size
        return taken

    def long(self) -> int:
        shift = value = 0
        while shift < 70:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise ValueError("varint longer than 10 bytes")

    def data(self) -> bytes:
        return self.take(self.long())
