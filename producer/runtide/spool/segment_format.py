"""The bytes of a segment: an Avro object container file of numbered events, one record to a block.

A power cut can tear any block that was not synced, in its middle too, so the record's first field is a checksum of the
rest (since format 2). The record's last field is the event body as a union of event types, so fastavro, DuckDB and any
other Avro reader read a segment as it is, and our own reader takes the body's bytes to the broker without decoding them.

A writer's file has the union of all its topic's types, as published. What travels over HTTP (``encode_segment``) has
only the types that are in it, in parsing canonical form, which leaves every fingerprint as it is.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from fastavro.schema import fingerprint, to_parsing_canonical_form

from runtide_schemas.codec import MARKER
from runtide_schemas.columns import encode_long, encode_string
from runtide_schemas.envelope import Envelope, Headers, to_headers
from runtide_schemas.errors import UnknownSchema
from runtide_schemas.registry import EVENT_TYPES, published_schema, schema_fingerprint
from runtide_schemas.released import releases

FORMAT = "2"
READABLE_FORMATS = {"1", "2"}
"""Format 1 had no checksum."""
NOT_METRICS = -1
ENVELOPE_TEXTS = ("id", "type", "subject", "writer", "source", "actor", "cause")
SYNC_BYTES = 16
MOST_SCHEMA_BYTES = 256 * 1024
_MAGIC = b"Obj\x01"


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


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the beginning of a segment says.

    Attributes:
        sync: the marker that ends each block.
        checksummed: whether events carry a checksum.
        tail_start: points of the tail accounted for before the first event.
        fingerprints: of the schema of each branch of the body's union.
        end: bytes that the header takes.
    """

    sync: bytes
    checksummed: bool
    tail_start: int
    fingerprints: tuple[bytes, ...]
    end: int


def segment_schema(topic: str) -> dict[str, Any]:
    """Return the Avro schema of a topic's segments."""
    return _record_of([published_schema(name) for name in branches(topic)])


@cache
def branches(topic: str) -> Mapping[str, int]:
    """Return the place of each event type in the union of a topic's segments."""
    names = sorted(name for name, event_type in EVENT_TYPES.items() if event_type.topic == topic)
    return {name: place for place, name in enumerate(names)}


def file_header(topic: str, tail_start: int, sync: bytes) -> bytes:
    """Return the header of a segment. ``tail_start``: points accounted for before its first event."""
    return _header(_schema_json(topic), tail_start, sync)


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


def encode_segment(events: Sequence[SpooledEvent]) -> bytes:
    """Return events of one topic as a whole segment, in which each type occurs in one version only.

    Raises:
        UnknownSchema: an event is of a schema that was never released.
    """
    versions = tuple(sorted({(event.type, event.fingerprint) for event in events}))
    places = {name: place for place, (name, _) in enumerate(versions)}
    sync = zlib.crc32(events[0].id.encode()).to_bytes(4, "big") * (SYNC_BYTES // 4)
    blocks = (encode_block(event, event.seq, places[event.type], sync) for event in events)
    return _header(_schema_of_versions(versions), 0, sync) + b"".join(blocks)


def decode_segment(data: bytes) -> list[SpooledEvent]:
    """Return the events of a whole segment that somebody else made, whose schemas are all known here.

    Raises:
        ValueError: it is none that this version reads, or it is damaged or torn anywhere.
    """
    try:
        header = read_header(data, known_fingerprints)
    except Exception as error:  # json and fastavro raise many kinds on what is no schema
        raise ValueError(f"no segment of spool format {FORMAT}: {type(error).__name__}: {error}") from error
    events, position = [], header.end
    while position < len(data):
        event, length = read_block(header, data, position)
        if event is None:
            raise ValueError(f"no whole event at byte {position} of {len(data)}")
        events.append(event)
        position += length
    return events


def read_header(data: bytes, fingerprints: Callable[[bytes], tuple[bytes, ...]] | None = None) -> SegmentHeader:
    """Return the header that ``data`` begins with; ``fingerprints`` tells those of its schema's branches.

    Raises:
        EOFError: it goes on behind the end of ``data``.
        KeyError, ValueError: it is no segment's, or of a format that this version does not read.
    """
    cursor = _Bytes(data)
    if cursor.take(len(_MAGIC)) != _MAGIC:
        raise ValueError("no Avro object container file")
    metadata: dict[str, bytes] = {}
    while count := cursor.long():
        for _ in range(count):
            key = cursor.data().decode()
            metadata[key] = cursor.data()
    sync = cursor.take(SYNC_BYTES)
    if (version := metadata["runtide.spool"].decode()) not in READABLE_FORMATS:
        raise ValueError(f"spool format {version}")
    return SegmentHeader(
        sync=sync,
        checksummed=version != "1",
        tail_start=int(metadata["runtide.tail_start"]),
        fingerprints=(fingerprints or fingerprints_of)(metadata["avro.schema"]),
        end=cursor.position,
    )


def read_block(header: SegmentHeader, buffer: bytes, offset: int) -> tuple[SpooledEvent | None, int]:
    """Return the event of the block at ``offset`` and the block's length; length 0 when it is not whole."""
    cursor = _Bytes(buffer, offset)
    try:
        count, record = cursor.long(), cursor.data()
        whole = count == 1 and cursor.take(SYNC_BYTES) == header.sync
        return (_event(header, record), cursor.position - offset) if whole else (None, 0)
    except (EOFError, ValueError, IndexError):
        return None, 0


def _event(header: SegmentHeader, record: bytes) -> SpooledEvent:
    cursor = _Bytes(record)
    if header.checksummed and cursor.long() != zlib.crc32(memoryview(record)[cursor.position :]):
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
        fingerprint=header.fingerprints[place],
    )


def _header(schema: bytes, tail_start: int, sync: bytes) -> bytes:
    metadata = {
        "avro.schema": schema,
        "avro.codec": b"null",
        "runtide.spool": FORMAT.encode(),
        "runtide.tail_start": str(tail_start).encode(),
    }
    pairs = b"".join(encode_string(key) + encode_long(len(value)) + value for key, value in metadata.items())
    return _MAGIC + encode_long(len(metadata)) + pairs + b"\x00" + sync


def _record_of(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the Avro schema of a segment whose events have these bodies."""
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
            {"name": "body", "type": bodies, "doc": "The event, of the type that `type` names."},
        ],
    }


@cache
def _schema_json(topic: str) -> bytes:
    return json.dumps(segment_schema(topic), separators=(",", ":")).encode()


@lru_cache(maxsize=256)
def _schema_of_versions(versions: tuple[tuple[str, bytes], ...]) -> bytes:
    bodies = [json.loads(to_parsing_canonical_form(_schema_of(name, version))) for name, version in versions]
    return json.dumps(_record_of(bodies), separators=(",", ":")).encode()


def _schema_of(name: str, version: bytes) -> dict[str, Any]:
    if (release := releases().get(version)) is not None:
        return release.schema()
    if name in EVENT_TYPES and version == schema_fingerprint(name):  # not released yet
        return published_schema(name)
    raise UnknownSchema(f"no schema of {name} that this version knows has the fingerprint {version.hex()}")


def known_fingerprints(schema: bytes) -> tuple[bytes, ...]:
    """Return the fingerprint of each branch of the body's union, without computing anything over what is not known.

    Raises:
        UnknownSchema: a branch is no schema that was ever released, in parsing canonical form, and the whole is not
            what this version's spools have.
        ValueError: it is no JSON, or too large.
    """
    if len(schema) > MOST_SCHEMA_BYTES:
        raise ValueError(f"its schema has {len(schema)} bytes; the limit is {MOST_SCHEMA_BYTES}")
    if (found := _own_schemas().get(schema)) is not None:
        return found
    forms = [json.dumps(branch, separators=(",", ":")) for branch in json.loads(schema)["fields"][-1]["type"]]
    if unknown := next((form for form in forms if form not in _known_forms()), None):
        raise UnknownSchema(f"no schema that this version knows: {unknown[:200]}")
    return tuple(_known_forms()[form] for form in forms)


@cache
def _known_forms() -> dict[str, bytes]:
    current = {schema_fingerprint(name): published_schema(name) for name in EVENT_TYPES}
    schemas = {version: release.schema() for version, release in releases().items()} | current
    return {to_parsing_canonical_form(schema): version for version, schema in schemas.items()}


@cache
def _own_schemas() -> dict[bytes, tuple[bytes, ...]]:
    topics = {event_type.topic for event_type in EVENT_TYPES.values()}
    return {_schema_json(topic): tuple(map(schema_fingerprint, branches(topic))) for topic in topics}


@lru_cache(maxsize=64)
def fingerprints_of(schema: bytes) -> tuple[bytes, ...]:
    """Return the fingerprint of each branch of the body's union, of a file that is ours."""
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
