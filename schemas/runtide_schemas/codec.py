"""Encoding of event bodies: Avro single-object encoding (marker C3 01, CRC-64-AVRO fingerprint, Avro binary).

``encode`` and ``decode`` serve every type. Metric points go through ``columns`` (NumPy); everything else through
fastavro, behind checks of its known leniencies (extra bytes, missing fields, negative indexes). ``decode`` reads every version that was
ever released, and the Confluent wire format (``confluent``) of whatever a schema registry knows.
"""

import io
from functools import cache, partial
from typing import Any

import fastavro

from runtide_schemas import columns, confluent
from runtide_schemas.confluent import DecoderById, no_registry
from runtide_schemas.errors import PoisonEvent, UndecodableEvent, UnknownSchema
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.indexes import check_bytes, has_indexes
from runtide_schemas.records import as_record, from_record
from runtide_schemas.registry import (
    fingerprint_of,
    published_schema,
    schema_fingerprint,
    types_by_fingerprint,
    working_schema,
)
from runtide_schemas.released import releases_of
from runtide_schemas.resolution import Decoder, released_decoder, resolving_decoder
from runtide_schemas.soundness import Schema, sound_schema

MARKER = b"\xc3\x01"
HEADER_SIZE = len(MARKER) + 8
MAX_EVENT_BYTES = 16 * 1024 * 1024


def encode(body: object) -> bytes:
    """Return an event body in single-object encoding."""
    name = type(body).__name__
    return MARKER + schema_fingerprint(name) + encode_body(body)


def encode_body(body: object) -> bytes:
    """Return the bare Avro binary of an event body."""
    if isinstance(body, MetricsLogged):
        return columns.encode_metrics(body)
    buffer = io.BytesIO()
    schema = working_schema(type(body).__name__)
    fastavro.schemaless_writer(buffer, schema, as_record(body), strict=True, disable_tuple_notation=True)
    return buffer.getvalue()


def decode(data: bytes, by_id: DecoderById = no_registry) -> Any:
    """Return the event body of ``data``, in single-object encoding or in the Confluent wire format.

    Args:
        data: the bytes, of any released version of a type.
        by_id: the decoder of a schema id of the Confluent wire format.

    Raises:
        UndecodableEvent: the bytes are damaged, or no event of ours.
        UnknownSchema: the fingerprint or id is of no schema that this version knows.
        NoRegistry: the Confluent wire format, and no registry is configured.
    """
    if len(data) > MAX_EVENT_BYTES:
        raise UndecodableEvent(f"event has {len(data)} bytes; the limit is {MAX_EVENT_BYTES}")
    if data[:2] == MARKER and len(data) >= HEADER_SIZE:
        event_type = types_by_fingerprint().get(data[2:HEADER_SIZE])
        if event_type is not None:
            return decode_body(event_type.name, data[HEADER_SIZE:])
        return released_decoder(data[2:HEADER_SIZE])(data[HEADER_SIZE:])
    if confluent.is_framed(data):
        return by_id(confluent.schema_id(data))(data[confluent.HEADER_SIZE :])
    raise UndecodableEvent(
        f"neither Avro single-object encoding (c301) nor the Confluent wire format (00): starts with {data[:4].hex()!r}"
    )


def decoder_of(writer: Schema) -> Decoder:
    """Return the decoder of bare Avro binary that was written with a schema of whatever version.

    Raises:
        UnknownSchema: it is of no type of ours, is not safe to read with, or our schema of that type cannot read it.
    """
    try:
        current = types_by_fingerprint().get(fingerprint_of(writer))
    except Exception as error:  # fastavro raises many kinds on what is no schema
        raise UnknownSchema(f"no Avro schema: {type(error).__name__}: {error}") from error
    return resolving_decoder(writer) if current is None else partial(decode_body, current.name)


def is_body_of(name: str, data: bytes) -> bool:
    """Return whether bare Avro binary is wholly one body of type ``name``, in any version that this one knows."""
    for release in releases_of(name):
        try:
            decoder_of(release.schema())(data)
        except PoisonEvent:
            continue
        return True
    return False


def decode_body(name: str, data: bytes) -> Any:
    """Return the body of type ``name`` from bare Avro binary."""
    if name == "MetricsLogged":
        return columns.decode_metrics(data)
    if (tree := _indexed(name)) is not None:
        check_bytes(tree, data)
    buffer = io.BytesIO(data)
    try:
        record = fastavro.schemaless_reader(buffer, working_schema(name), None)
    except Exception as error:  # fastavro raises many kinds on bad bytes; all mean the same
        raise UndecodableEvent(f"{name}: {type(error).__name__}: {error}") from error
    if buffer.tell() != len(data):
        raise UndecodableEvent(f"{name}: {len(data) - buffer.tell()} bytes follow the record")
    return from_record(name, record)


@cache
def _indexed(name: str) -> Schema | None:
    """Return the plain tree of a type's schema when it has unions or enums, whose indexes have to be checked."""
    tree = sound_schema(published_schema(name))
    return tree if has_indexes(tree) else None
