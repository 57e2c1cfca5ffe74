"""The contract does not drift: golden bytes, released versions, schemas and dataclasses agree.

``make release-schemas`` keeps versions and writes golden files for schemas that have none yet; it never changes one.
"""

from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastavro.schema
import pytest

from runtide_schemas import codec
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.registry import EVENT_TYPES, fingerprint_of, published_schema, schema_fingerprint
from runtide_schemas.release import COMMAND, present_release, release_problems, source_text
from runtide_schemas.released import FOLDER, releases, releases_of
from runtide_schemas.resolution import event_name
from runtide_schemas.soundness import sound_schema
from runtide_schemas.topics import TOPICS
from tests.unit.sample_events import sample

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_file(name: str) -> Path:
    return GOLDEN / f"{name}.{schema_fingerprint(name).hex()}.bin"


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_encoding_is_the_golden_one(name: str) -> None:
    path = golden_file(name)
    assert path.exists(), f"the schema of {name} is new or has changed: run `{COMMAND}` and commit what it adds"
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


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_version_can_read_every_other_and_the_present_one_is_kept(name: str) -> None:
    assert list(release_problems(name)) == []
    release = present_release(name)
    assert release in releases_of(name), (
        f"the schema of {name} is new or has changed: run `{COMMAND}` and commit what it adds"
    )
    assert FOLDER.joinpath(release.file).read_text(encoding="utf-8") == source_text(name), (
        f"{release.file} differs from avro/{name}.avsc: run `{COMMAND}`"
    )


def test_every_released_version_is_what_its_name_says_and_has_a_golden_body() -> None:
    golden = {path.name for path in GOLDEN.glob("*.bin")}
    for release in releases().values():
        assert fingerprint_of(release.schema()) == release.fingerprint, release.file
        assert event_name(release.schema()) == release.name
        assert f"{release.name}.{release.fingerprint.hex()}.bin" in golden, f"run `{COMMAND}`"
    assert len(golden) == len(releases()), "a golden body without its released schema: restore the file in released/"
    for name in EVENT_TYPES:
        assert [release.number for release in releases_of(name)] == list(range(1, len(releases_of(name)) + 1))


def test_every_schema_stands_alone() -> None:
    for release in releases().values():
        sound_schema(release.schema())


def test_fingerprints_are_those_of_the_avro_specification() -> None:
    assert fastavro.schema.fingerprint('"null"', "CRC-64-AVRO") == (0x63DD24E7CC258F8A).to_bytes(8, "little").hex()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for missing in (name for name in EVENT_TYPES if not golden_file(name).exists()):
        golden_file(missing).write_bytes(codec.encode(sample(missing)))
