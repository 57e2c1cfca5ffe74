"""The table of event types: class, topic, Avro schema and fingerprint of each.

What is published, decoded, documented and tested derives from this table.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any

from fastavro import parse_schema
from fastavro.schema import fingerprint, to_parsing_canonical_form

from runtide_schemas import topics
from runtide_schemas.events import catalog, deployments, liveness, logged_models, metrics, quarantine, requests, runs
from runtide_schemas.soundness import Schema, without_logical_types

_NESTED = {"Answer", "DatasetInput", "ModelLink", "ModelPoint"}


@dataclass(frozen=True, slots=True)
class EventType:
    """One event type.

    Attributes:
        name: type name, also of its class and Avro file.
        cls: frozen dataclass of the body.
        topic: topic that it is published to.
    """

    name: str
    cls: type[Any]
    topic: str


def _types_in(module: ModuleType, topic: str) -> list[EventType]:
    classes = [
        value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return [EventType(cls.__name__, cls, topic) for cls in classes if cls.__name__ not in _NESTED]


EVENT_TYPES: dict[str, EventType] = {
    event_type.name: event_type
    for event_type in (
        *_types_in(runs, topics.RUNS),
        *_types_in(logged_models, topics.RUNS),
        *_types_in(metrics, topics.METRICS),
        *_types_in(liveness, topics.LIVENESS),
        *_types_in(requests, topics.REQUESTS),
        *_types_in(catalog, topics.CATALOG),
        *_types_in(deployments, topics.DEPLOYMENTS),
        *_types_in(quarantine, topics.QUARANTINE),
    )
}


@cache
def published_schema(name: str) -> dict[str, Any]:
    """Return the Avro schema of a type as published, with documentation and logical types."""
    text = files("runtide_schemas").joinpath("avro", f"{name}.avsc").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def working_schema(name: str) -> Any:
    """Return the schema our codec works with: the same encoding, times as plain longs.

    fastavro turns logical types into datetime objects; milliseconds stay integers with us.
    """
    return parse_schema(without_logical_types(published_schema(name)))


@cache
def schema_fingerprint(name: str) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a type's schema as its 8 little-endian bytes (Avro specification)."""
    return fingerprint_of(published_schema(name))


def fingerprint_of(schema: Schema) -> bytes:
    """Return the CRC-64-AVRO fingerprint of any schema, as ``schema_fingerprint`` does of ours."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@cache
def types_by_fingerprint() -> dict[bytes, EventType]:
    """Return the event types by the fingerprint of their current schema."""
    return {schema_fingerprint(name): event_type for name, event_type in EVENT_TYPES.items()}
