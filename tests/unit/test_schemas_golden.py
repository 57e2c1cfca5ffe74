"""The contract does not drift: golden bytes, schemas and dataclasses agree.

``python -m tests.unit.test_schemas_golden`` writes golden files for types that have none yet; it never changes one.
"""

from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastavro.schema
import pytest

from runtide_schemas import codec
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.registry import EVENT_TYPES, published_schema, schema_fingerprint
from runtide_schemas.topics import TOPICS
from tests.unit.sample_events import sample

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_file(name: str) -> Path:
    return GOLDEN / f"{name}.{schema_fingerprint(name).hex()}.bin"


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_encoding_is_the_golden_one(name: str) -> None:
    path = golden_file(name)
    assert path.exists(), (
        f"the schema of {name} has a new fingerprint: run `python -m {__spec__.name}`, keep the old file"
    )
    assert codec.encode(sample(name)) == path.read_bytes()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.name)
def test_every_golden_event_ever_written_still_decodes(path: Path) -> None:
    decoded = codec.decode(path.read_bytes())
    assert type(decoded).__name__ == path.name.split(".")[0]


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_class_and_schema_have_the_same_fields_and_defaults(name: str) -> None:
    schema_fields = {field["name"]: field.get("default", MISSING) for field in published_schema(name)["fields"]}
    cls = EVENT_TYPES[name].cls
    assert [field.name for field in fields(cls)] == list(schema_fields)
    if cls is not MetricsLogged:
        assert {field.name: _default(field) for field in fields(cls)} == schema_fields


def _default(field: Any) -> Any:
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return list(value) if isinstance(value, tuple) else value


def test_every_avro_file_is_a_type_and_every_field_is_documented() -> None:
    names = {path.name.removesuffix(".avsc") for path in files("runtide_schemas").joinpath("avro").iterdir()}
    assert names == set(EVENT_TYPES)
    for name in names:
        assert published_schema(name)["doc"]
        assert all(field.get("doc") for field in published_schema(name)["fields"]), name


def test_every_type_goes_to_a_known_topic() -> None:
    assert {event_type.topic for event_type in EVENT_TYPES.values()} == set(TOPICS)


def test_no_recursive_types_and_no_zero_size_items() -> None:
    for name in EVENT_TYPES:
        for schema in _walk(published_schema(name)):
            assert schema != {"type": "array", "items": "null"}
            assert not (isinstance(schema, dict) and schema.get("type") == "record" and not schema["fields"])


def _walk(schema: Any) -> Any:
    yield schema
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in children:
        yield from _walk(child)


def test_fingerprints_are_those_of_the_avro_specification() -> None:
    assert fastavro.schema.fingerprint('"null"', "CRC-64-AVRO") == (0x63DD24E7CC258F8A).to_bytes(8, "little").hex()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for missing in (name for name in EVENT_TYPES if not golden_file(name).exists()):
        golden_file(missing).write_bytes(codec.encode(sample(missing)))
