"""A run's spooled events as JSON lines, or as one Avro object container file, for other tools."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from runtide.spool.inspection import unsealed
from runtide.spool.keys import read_keys
from runtide.spool.manifest import Manifest
from runtide.spool.sealing import MOST_POINTS, metrics_event
from runtide.spool.segment import events_of, segment_files
from runtide.spool.segment_format import ENVELOPE_TEXTS
from runtide_schemas import topics
from runtide_schemas.codec import decode, encode_body
from runtide_schemas.columns import encode_long, encode_string
from runtide_schemas.registry import EVENT_TYPES, published_schema

UNNUMBERED = -1
"""``seq`` of points that are no events yet."""
_BRANCHES = sorted(EVENT_TYPES)
_PLACES = {name: place for place, name in enumerate(_BRANCHES)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportedEvent:
    """An event, of this version's types whatever version wrote it. ``texts``: the envelope's, by name."""

    topic: str
    seq: int
    time: int
    texts: dict[str, str]
    body: object


def exported(spools: Iterable[Path]) -> Iterator[ExportedEvent]:
    """Yield what spools hold, sent or not: writer by writer, topic by topic, in order, and then points of the tail.

    Raises:
        FatalError: a file cannot be read; ``runtide spool verify`` says more.
    """
    for directory in spools:
        manifest = Manifest.read(directory)
        for topic, _, path in segment_files(directory):
            for event in events_of(path):
                texts = {name: getattr(event, name) for name in ENVELOPE_TEXTS}
                body = decode(event.value())
                yield ExportedEvent(topic=topic, seq=event.seq, time=event.time, texts=texts, body=body)
        yield from _of_the_tail(directory, manifest)


def write_json_lines(events: Iterable[ExportedEvent], file: BinaryIO) -> int:
    """Write a JSON object per line; return how many. NaN and infinities become text, as JSON has none."""
    count = 0
    for event in events:
        row = {"topic": event.topic, "seq": event.seq, "time": event.time, **event.texts, "body": _plain(event.body)}
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        count += 1
    return count


def write_avro(events: Iterable[ExportedEvent], file: BinaryIO) -> int:
    """Write an Avro object container file; return how many events."""
    sync = os.urandom(16)
    metadata = {"avro.schema": json.dumps(export_schema()).encode(), "avro.codec": b"null"}
    pairs = b"".join(encode_string(key) + encode_long(len(value)) + value for key, value in metadata.items())
    file.write(b"Obj\x01" + encode_long(len(metadata)) + pairs + b"\x00" + sync)
    count = 0
    for event in events:
        fields = (
            encode_string(event.topic),
            encode_long(event.seq),
            encode_long(event.time),
            *(encode_string(event.texts[name]) for name in ENVELOPE_TEXTS),
            encode_long(_PLACES[type(event.body).__name__]),
            encode_body(event.body),
        )
        record = b"".join(fields)
        file.write(b"".join((encode_long(1), encode_long(len(record)), record, sync)))
        count += 1
    return count


def export_schema() -> dict[str, Any]:
    """Return the Avro schema of an export."""
    return {
        "type": "record",
        "name": "ExportedEvent",
        "namespace": "org.runtide.spool",
        "doc": "An event that a writer's spool held: its envelope, and its body last.",
        "fields": [
            {"name": "topic", "type": "string", "doc": "Topic that it belongs to."},
            {
                "name": "seq",
                "type": "long",
                "doc": "Number in the writer's sequence of the topic; -1: not numbered yet.",
            },
            {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "When."},
            *({"name": name, "type": "string", "doc": f"Envelope: {name}."} for name in ENVELOPE_TEXTS),
            {
                "name": "body",
                "type": _defined_once([published_schema(name) for name in _BRANCHES]),
                "doc": "The event.",
            },
        ],
    }


def _defined_once(schema: Any, seen: set[str] | None = None, namespace: str = "") -> Any:
    """Return a schema in which types that several events use are defined where they come first, and named after that."""
    seen = set() if seen is None else seen
    if isinstance(schema, list):
        return [_defined_once(branch, seen, namespace) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    namespace = schema.get("namespace", namespace)
    if schema["type"] in {"record", "enum", "fixed"}:
        full_name = f"{namespace}.{schema['name']}"
        if full_name in seen:
            return full_name
        seen.add(full_name)
    nested = {key: _defined_once(schema[key], seen, namespace) for key in ("items", "values") if key in schema}
    if "fields" in schema:
        fields = [{**field, "type": _defined_once(field["type"], seen, namespace)} for field in schema["fields"]]
        nested["fields"] = fields
    return {**schema, **nested}


def _of_the_tail(directory: Path, manifest: Manifest) -> Iterator[ExportedEvent]:
    names = read_keys(directory)
    for _, records in unsealed(directory):
        for start in range(0, len(records), MOST_POINTS):
            body = metrics_event(manifest.run_id, records[start : start + MOST_POINTS], names)
            if body is None:
                continue
            texts = dict.fromkeys(ENVELOPE_TEXTS, "") | {
                "type": type(body).__name__,
                "subject": manifest.run_id,
                "writer": manifest.writer_id,
            }
            time = int(body.timestamp[-1])
            yield ExportedEvent(topic=topics.METRICS, seq=UNNUMBERED, time=time, texts=texts, body=body)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case np.ndarray():
            return [_plain(item) for item in value.tolist()]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value
