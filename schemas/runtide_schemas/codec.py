"""Encoding of event bodies: Avro single-object encoding (marker C3 01, CRC-64-AVRO fingerprint, Avro binary).

``encode`` and ``decode`` serve every type. Metric points go through ``columns`` (NumPy); everything else through
fastavro, behind checks of its known leniencies (extra bytes, missing fields).
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import fastavro

from runtide_schemas import columns
from runtide_schemas.errors import UndecodableEvent, UnknownSchema
from runtide_schemas.events.catalog import Answer
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import DatasetInput
from runtide_schemas.registry import schema_fingerprint, types_by_fingerprint, working_schema

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
    fastavro.schemaless_writer(buffer, schema, _as_record(body), strict=True, disable_tuple_notation=True)
    return buffer.getvalue()


def decode(data: bytes) -> Any:
    """Return the event body of single-object encoded ``data``.

    Raises:
        UndecodableEvent: the bytes are damaged, or no event of ours.
        UnknownSchema: the fingerprint is of no schema that this version knows.
    """
    if len(data) > MAX_EVENT_BYTES:
        raise UndecodableEvent(f"event has {len(data)} bytes; the limit is {MAX_EVENT_BYTES}")
    if data[:2] != MARKER or len(data) < HEADER_SIZE:
        raise UndecodableEvent(f"no Avro single-object encoding: starts with {data[:4].hex()!r}, expected 'c301'")
    event_type = types_by_fingerprint().get(data[2:HEADER_SIZE])
    if event_type is None:
        raise UnknownSchema(
            f"unknown schema fingerprint {data[2:HEADER_SIZE].hex()}; a newer writer? upgrade this consumer"
        )
    return decode_body(event_type.name, data[HEADER_SIZE:])


def decode_body(name: str, data: bytes) -> Any:
    """Return the body of type ``name`` from bare Avro binary."""
    if name == "MetricsLogged":
        return columns.decode_metrics(data)
    buffer = io.BytesIO(data)
    try:
        record = fastavro.schemaless_reader(buffer, working_schema(name), None)
    except Exception as error:  # fastavro raises many kinds on bad bytes; all mean the same
        raise UndecodableEvent(f"{name}: {type(error).__name__}: {error}") from error
    if buffer.tell() != len(data):
        raise UndecodableEvent(f"{name}: {len(data) - buffer.tell()} bytes follow the record")
    return from_record(name, record)


def from_record(name: str, record: Any) -> Any:
    """Return the body dataclass of a decoded Avro record (a dict)."""
    return _builders()[name](record)


def _as_record(body: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(body, field.name)) for field in fields(body)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return _as_record(value)
    return dict(value) if isinstance(value, Mapping) else value


@cache
def _builders() -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {event_type.name: _builder(event_type.cls) for event_type in types_by_fingerprint().values()}


def _builder(cls: type[Any]) -> Callable[[dict[str, Any]], Any]:
    def build(record: dict[str, Any]) -> Any:
        return cls(**{key: _NESTED.get(key, _frozen)(value) for key, value in record.items()})

    return build


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_NESTED: dict[str, Callable[[Any], Any]] = {
    "answer": lambda value: Answer(**value),
    "datasets": lambda value: tuple(DatasetInput(**item) for item in value),
}
