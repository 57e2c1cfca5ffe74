"""Old and new versions of a schema read each other's bytes, shown with versions made up here; ours stay as they are."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from runtide_schemas import codec, confluent, registry, release, released, resolution
from runtide_schemas.columns import encode_long, encode_string
from runtide_schemas.errors import UndecodableEvent, UnknownSchema
from runtide_schemas.events.requests import SetAlias
from runtide_schemas.events.runs import ParamsLogged, RunDeleted
from runtide_schemas.indexes import has_indexes
from runtide_schemas.registry import EVENT_TYPES, fingerprint_of, published_schema
from runtide_schemas.resolution import record_reader
from runtide_schemas.soundness import sound_schema
from runtide_schemas.upcasts import UPCASTS
from tests.unit.sample_events import sample


def evolved(name: str, *added: dict[str, Any], removed: str = "") -> dict[str, Any]:
    """Return another version of a type's schema."""
    schema = json.loads(json.dumps(published_schema(name)))
    schema["fields"] = [field for field in schema["fields"] if field["name"] != removed] + list(added)
    return dict(schema)


def written(schema: Any, record: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, record, strict=True)
    return buffer.getvalue()


NOTE = {"name": "note", "type": "string", "default": "", "doc": "A field of later."}


def test_a_newer_writers_event_is_read_without_the_field_that_is_new() -> None:
    newer = evolved("ParamsLogged", NOTE)
    body = written(newer, {"run_id": "r", "params": {"a": "1"}, "note": "hello"})
    assert codec.decoder_of(newer)(body) == ParamsLogged(run_id="r", params={"a": "1"})
    with pytest.raises(UndecodableEvent, match="bytes follow"):
        codec.decoder_of(newer)(body + b"x")
    with pytest.raises(UndecodableEvent):
        codec.decoder_of(newer)(body[:-3])


def test_an_older_writers_event_gets_the_default_of_the_field_that_it_lacks() -> None:
    older = evolved("RunStarted", removed="source_type")
    event = sample("RunStarted")
    record = {field["name"]: getattr(event, field["name"]) for field in older["fields"]}
    decoded = codec.decoder_of(older)(written(older, {**record, "tags": dict(event.tags)}))
    assert decoded.source_type == "LOCAL" != event.source_type
    assert decoded.run_id == event.run_id


def test_a_renamed_field_is_found_by_its_alias_and_by_older_readers_through_its_default() -> None:
    older = {"type": "record", "name": "Sample", "fields": [{"name": "old", "type": "long", "default": 7}]}
    newer = {**older, "fields": [{"name": "new", "type": "long", "default": 8, "aliases": ["old"]}]}
    assert record_reader(older, newer)(encode_long(5)) == {"new": 5}
    assert record_reader(newer, older)(encode_long(5)) == {"old": 7}


def test_metrics_of_another_version_are_the_same_columns() -> None:
    newer, event = evolved("MetricsLogged", NOTE), sample("MetricsLogged")
    body = codec.encode_body(event) + encode_string("hello")
    decoded = codec.decoder_of(newer)(body)
    assert (decoded.run_id, decoded.keys) == (event.run_id, event.keys)
    for name in ("key_index", "step", "timestamp", "value"):
        assert getattr(decoded, name).dtype == getattr(event, name).dtype
        assert getattr(decoded, name).tobytes() == getattr(event, name).tobytes()
    outside = type(event)(
        run_id="r",
        keys=("a",),
        key_index=np.array([1], np.int32),
        step=np.zeros(1, np.int64),
        timestamp=np.zeros(1, np.int64),
        value=np.zeros(1),
    )
    with pytest.raises(UndecodableEvent, match="key_index outside the 1 keys"):
        codec.decoder_of(newer)(codec.encode_body(outside) + encode_string(""))


def test_nested_records_evolve_too() -> None:
    newer = evolved("InputsLogged")
    newer["fields"][1]["type"]["items"]["fields"].append(dict(NOTE))
    old = sample("InputsLogged")
    inputs = [{"name": "d", "digest": "1", "source_type": "", "source": "", "schema": "", "profile": "", "tags": {}}]
    body = written(newer, {"run_id": old.run_id, "datasets": [{**inputs[0], "note": "x"}]})
    assert codec.decoder_of(newer)(body).datasets[0].digest == "1"


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_type_is_read_through_resolution_as_it_is_directly(name: str) -> None:
    event = sample(name)
    decoded = resolution.resolving_decoder(published_schema(name))(codec.encode_body(event))
    assert codec.encode(decoded) == codec.encode(event)


def test_a_foreign_or_unsafe_schema_is_of_no_event_type() -> None:
    for schema, why in (
        ({"type": "record", "name": "Other", "namespace": "org.runtide.events", "fields": []}, "of no event type"),
        ({"type": "record", "name": "RunDeleted", "namespace": "org.elsewhere", "fields": []}, "of no event type"),
        (evolved("RunDeleted", removed="run_id"), "run_id: the reader wants it"),
        (evolved("RunDeleted", {"name": "n", "type": {"type": "array", "items": "null"}}), "take no bytes"),
        (evolved("RunDeleted", {"name": "n", "type": ["null", "RunDeleted"]}), "recursive"),
        ("string", "of no event type"),
        ({"type": 5}, "schema"),
        (5, "schema"),
    ):
        with pytest.raises(UnknownSchema, match=why):
            codec.decoder_of(schema)


def test_an_index_that_fastavro_would_wrap_is_refused() -> None:
    """fastavro takes index -1 of a union as its last branch."""
    newer = evolved("RunDeleted", {"name": "why", "type": ["null", "string"], "default": None})
    body = codec.encode_body(RunDeleted(run_id="r", at=5))
    wrapped = body + encode_long(-1) + encode_string("x")
    taken: Any = fastavro.schemaless_reader(io.BytesIO(wrapped), newer, None)
    assert taken["why"] == "x"
    decode = codec.decoder_of(newer)
    assert (
        decode(body + encode_long(1) + encode_string("x"))
        == decode(body + encode_long(0))
        == RunDeleted(run_id="r", at=5)
    )
    for index in (-1, 2):
        with pytest.raises(UndecodableEvent, match=f"index {index} is not one of 0 to 1"):
            decode(body + encode_long(index) + encode_string("x"))


def test_indexes_are_found_wherever_they_lie() -> None:
    kind = {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}
    deep = [
        {"name": "few", "type": {"type": "array", "items": {"type": "map", "values": ["null", kind]}}},
        {"name": "raw", "type": {"type": "fixed", "name": "Raw", "size": 2}},
        {"name": "flags", "type": {"type": "array", "items": "boolean"}},
        {"name": "more", "type": {"type": "array", "items": ["float", "bytes", "Kind"]}},
    ]
    newer = evolved("RunDeleted", *deep)
    values = {"few": [{"k": "A", "l": None}, {}], "raw": b"ab", "flags": [True], "more": [0.5, b"x", "B"]}
    body = written(newer, {"run_id": "r", "at": 5, **values})
    assert codec.decoder_of(newer)(body) == RunDeleted(run_id="r", at=5)
    assert body.endswith(encode_long(2) + encode_long(1) + b"\x00")
    for wrong in (encode_long(2) + encode_long(-1), encode_long(-3) + encode_long(1)):
        with pytest.raises(UndecodableEvent, match="is not one of"):
            codec.decoder_of(newer)(body[:-3] + wrong + b"\x00")


def test_no_schema_of_frequent_events_has_indexes() -> None:
    """They would have to be looked through before fastavro reads them, which takes as long again."""
    looked_through = {name for name in EVENT_TYPES if has_indexes(sound_schema(published_schema(name)))}
    rare = {"AliasMoved", "EventParked", "ParkedReleased", "RunUpdated", "SetAlias", "UpdateWebhook", "WriterOpened"}
    assert looked_through == rare


def test_a_wrapped_index_in_an_event_of_ours_is_refused() -> None:
    encoded = codec.encode(SetAlias(name="m", alias="a", version=1, expected_version=2))
    assert encoded.endswith(encode_long(1) + encode_long(2))
    with pytest.raises(UndecodableEvent, match="index -1 is not one of 0 to 1"):
        codec.decode(encoded[:-2] + encode_long(-1) + encode_long(2))


def test_the_wire_format_is_a_zero_byte_an_id_and_the_same_body() -> None:
    event = sample("RunStarted")
    framed = confluent.header(258) + codec.encode_body(event)
    assert framed[:5] == b"\x00\x00\x00\x01\x02"
    assert codec.decode(framed, {258: codec.decoder_of(published_schema("RunStarted"))}.__getitem__) == event
    with pytest.raises(confluent.NoRegistry, match=r"schema id 258.*RUNTIDE_SCHEMA_REGISTRY_URL"):
        codec.decode(framed)
    with pytest.raises(UndecodableEvent, match="starts with '00010203'"):
        codec.decode(b"\x00\x01\x02\x03")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A folder of released versions and a present schema of ParamsLogged, both to play with."""
    for path in released.FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    present = evolved("ParamsLogged")
    real = registry.published_schema
    for module in (registry, release, resolution):
        monkeypatch.setattr(module, "published_schema", lambda name: present if name == "ParamsLogged" else real(name))
    monkeypatch.setattr(release, "source_text", lambda name: json.dumps(registry.published_schema(name)))
    monkeypatch.setattr(released, "FOLDER", tmp_path)
    caches = (
        registry.schema_fingerprint,
        registry.types_by_fingerprint,
        registry.working_schema,
        released.releases,
        resolution.released_decoder,
    )
    for cached in caches:
        cached.cache_clear()
    yield present
    for cached in caches:
        cached.cache_clear()


def forget_present() -> None:
    for cached in (registry.schema_fingerprint, registry.types_by_fingerprint, registry.working_schema):
        cached.cache_clear()


def test_a_released_version_is_read_after_the_schema_has_changed(checkout: dict[str, Any]) -> None:
    old = codec.encode(ParamsLogged(run_id="r", params={"a": "1"}))
    checkout["fields"].append({"name": "extra", "type": "string", "default": ""})
    forget_present()
    assert release.main() == 0
    assert [kept.number for kept in released.releases_of("ParamsLogged")] == [1, 2]
    assert registry.schema_fingerprint("ParamsLogged") != old[2:10]
    with pytest.raises(TypeError, match="extra"):  # resolved to the new schema; only the class here is the old one
        codec.decode(old)


def test_a_change_that_old_readers_cannot_follow_is_not_released(
    checkout: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    checkout["fields"].append({"name": "extra", "type": "string"})
    forget_present()
    assert release.main() == 1
    said = capsys.readouterr().err
    assert "ParamsLogged must not be released as it is:\n  cannot read what version 1" in said
    assert ".extra: the reader wants it" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_default_never_changes_and_a_doc_may(checkout: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    checkout["doc"] = "Said better."
    assert release.main() == 0
    assert released.releases_of("ParamsLogged")[0].schema()["doc"] == "Said better."
    checkout["fields"][1]["default"] = {"a": "1"}
    assert release.main() == 1
    assert "a default never changes" in capsys.readouterr().err


def test_an_upcast_does_what_avros_rules_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    older = {
        "type": "record",
        "name": "RunDeleted",
        "namespace": published_schema("RunDeleted")["namespace"],
        "fields": [{"name": "run", "type": "string"}, {"name": "seconds", "type": "long"}],
    }
    body = encode_string("r") + encode_long(5)
    with pytest.raises(UnknownSchema, match="does not fit ours"):
        codec.decoder_of(older)
    monkeypatch.setitem(
        UPCASTS, fingerprint_of(older).hex(), lambda record: {"run_id": record["run"], "at": 1000 * record["seconds"]}
    )
    assert codec.decoder_of(older)(body) == RunDeleted(run_id="r", at=5000)
