"""From bytes of any version of a schema to the present class: Avro's resolution of writer schema to reader schema."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import fastavro
from fastavro import parse_schema

from runtide_schemas.compatibility import read_problems
from runtide_schemas.errors import UndecodableEvent, UnknownSchema
from runtide_schemas.indexes import check_bytes
from runtide_schemas.records import from_record
from runtide_schemas.registry import EVENT_TYPES, fingerprint_of, published_schema
from runtide_schemas.released import releases
from runtide_schemas.soundness import Schema, UnsoundSchema, sound_schema, without_logical_types
from runtide_schemas.upcasts import UPCASTS

Decoder = Callable[[bytes], Any]
"""Bare Avro binary to event body. Raises UndecodableEvent for damaged bytes."""


@cache
def released_decoder(fingerprint: bytes) -> Decoder:
    """Return the decoder of a released version that is not the present one.

    Raises:
        UnknownSchema: no version of any type has that fingerprint.
    """
    release = releases().get(fingerprint)
    if release is None:
        raise UnknownSchema(f"unknown schema fingerprint {fingerprint.hex()}; a newer writer? upgrade this consumer")
    return resolving_decoder(release.schema())


def resolving_decoder(writer: Schema) -> Decoder:
    """Return the decoder of bodies that were written with ``writer``, whoever made it.

    Raises:
        UnknownSchema: it is of no type of ours, is not safe to read with, or our schema of that type cannot read it.
    """
    name = event_name(writer)
    try:
        problems = read_problems(published_schema(name), writer)
    except UnsoundSchema as error:
        raise UnknownSchema(f"the writer's schema of {name} is not read with: {error}") from error
    upcast = UPCASTS.get(fingerprint_of(writer).hex())
    if problems and upcast is None:
        raise UnknownSchema(f"the writer's schema of {name} does not fit ours: {'; '.join(problems[:3])}")
    read = record_reader(writer, None if upcast else published_schema(name))

    def decode(data: bytes) -> Any:
        record = read(data)
        return from_record(name, record if upcast is None else upcast(record))

    return decode


def event_name(schema: Schema) -> str:
    """Return the event type that a schema is of.

    Raises:
        UnknownSchema: none of ours.
    """
    found = (schema.get("name", ""), schema.get("namespace", "")) if isinstance(schema, dict) else ("", "")
    full = found[0] if "." in found[0] else f"{found[1]}.{found[0]}"
    namespace, _, name = full.rpartition(".")
    if name not in EVENT_TYPES or namespace != published_schema(name)["namespace"]:
        raise UnknownSchema(f"schema {full.lstrip('.')[:200]!r} is of no event type that this version knows")
    return name


def record_reader(writer: Schema, reader: Schema | None) -> Callable[[bytes], dict[str, Any]]:
    """Return a function from bare Avro binary to the record, resolved to ``reader`` when given.

    The function raises UndecodableEvent for bytes that are not one record of ``writer``, wholly.
    """
    name, parsed, tree = writer["name"], parse_schema(without_logical_types(writer)), sound_schema(writer)
    resolved = None if reader is None else parse_schema(without_logical_types(reader))

    def read(data: bytes) -> dict[str, Any]:
        check_bytes(tree, data)
        buffer = io.BytesIO(data)
        try:
            record: Any = fastavro.schemaless_reader(buffer, parsed, resolved)
        except Exception as error:  # fastavro raises many kinds on bad bytes; all mean the same
            raise UndecodableEvent(f"{name}: {type(error).__name__}: {error}") from error
        if buffer.tell() != len(data):
            raise UndecodableEvent(f"{name}: {len(data) - buffer.tell()} bytes follow the record")
        return record  # type: ignore[no-any-return]  # a record's schema makes it a dict

    return read
