"""Our client of schema registries, against the double and against a real registry, beside Confluent's own client."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from runtide.schema_registry import SchemaRegistry, SchemaRegistrySettings
from runtide.schema_registry.rest import IncompatibleSchema, Missing, RegistryApi
from runtide_schemas import codec, confluent
from runtide_schemas.errors import FatalError, UnknownSchema
from runtide_schemas.events.runs import ParamsLogged, RunStarted
from runtide_schemas.records import as_record
from runtide_schemas.registry import EVENT_TYPES, published_schema
from runtide_schemas.released import releases
from tests.apicurio import ApicurioRegistry
from tests.conformance.registries import running_registry
from tests.schema_registry_double import SchemaRegistryDouble
from tests.unit.sample_events import sample

Running = SchemaRegistryDouble | ApicurioRegistry


@pytest.fixture(scope="module", params=["double", pytest.param("apicurio", marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_registry(request.param, tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def settings(running: Running) -> SchemaRegistrySettings:
    return SchemaRegistrySettings(url=running.url)


def renamed(name: str, schema: dict[str, Any], *added: dict[str, Any]) -> dict[str, Any]:
    copy = json.loads(json.dumps(schema))
    return {**copy, "name": name, "fields": [*copy["fields"], *added]}


async def test_all_schemas_are_registered_once_and_made_strict(settings: SchemaRegistrySettings) -> None:
    first, second = SchemaRegistry(settings), SchemaRegistry(settings)
    assert await first.register_all() == await second.register_all() == len(releases())
    api = RegistryApi(settings)
    for name in EVENT_TYPES:
        encoded = codec.encode(sample(name))
        framed = first.framed(encoded)
        assert framed is not None and framed == second.framed(encoded)
        assert framed[:1] == b"\x00" and framed[5:] == encoded[10:]
        assert await api.compatibility(f"org.runtide.events.{name}") == "FULL_TRANSITIVE"


async def test_a_schema_is_registered_when_it_is_first_sent_and_then_known(settings: SchemaRegistrySettings) -> None:
    registry = SchemaRegistry(settings)
    encoded = codec.encode(sample("RunStarted"))
    assert registry.framed(encoded) is None
    framed = await registry.frame(encoded)
    assert registry.framed(encoded) == framed == await SchemaRegistry(settings).frame(encoded)
    already = await registry.frame(framed)
    assert already == framed


async def test_every_golden_event_survives_the_way_through_the_registry(settings: SchemaRegistrySettings) -> None:
    writer, reader = SchemaRegistry(settings), SchemaRegistry(settings)
    golden = sorted((Path(__file__).parents[1] / "golden").glob("*.bin"))
    framed = [await writer.frame(path.read_bytes()) for path in golden]
    await reader.learn(framed)
    for path, value in zip(golden, framed, strict=True):
        assert value[5:] == path.read_bytes()[10:], path.name
        assert codec.encode(codec.decode(value, reader.decoder)) == codec.encode(codec.decode(path.read_bytes())), (
            path.name
        )


async def test_both_encodings_are_read_side_by_side(settings: SchemaRegistrySettings) -> None:
    registry, encoded = SchemaRegistry(settings), codec.encode(sample("RunEnded"))
    mixed = [encoded, await registry.frame(encoded), encoded]
    await registry.learn([*mixed, None, b"", b"\x00", b"garbage"])
    assert {codec.decode(value, registry.decoder) for value in mixed} == {sample("RunEnded")}


async def test_without_leave_to_register_a_missing_schema_is_named(running: Running) -> None:
    settings = SchemaRegistrySettings(url=running.url, register_schemas=False)
    api, schema = RegistryApi(settings), renamed("Unheard", published_schema("RunDeleted"))
    with pytest.raises(FatalError, match=r"lacks a schema of subject org\.runtide\.events\.Unheard.*REGISTER_SCHEMAS"):
        await SchemaRegistry(settings)._id(api, schema)
    assert await api.compatibility("org.runtide.events.Unheard") is None


async def test_what_versions_could_not_read_of_one_another_is_refused_with_the_reason(
    settings: SchemaRegistrySettings,
) -> None:
    api, registry = RegistryApi(settings), SchemaRegistry(settings)
    base = published_schema("RunDeleted")
    good = {"name": "note", "type": "string", "default": "", "doc": "x"}
    identifier = await registry._id(api, renamed("Evolving", base))
    newer = await registry._id(api, renamed("Evolving", base, good))
    assert newer != identifier == await api.lookup("org.runtide.events.Evolving", json.dumps(renamed("Evolving", base)))
    for bad in ({**good, "name": "at2"} | {"type": "long", "default": 0}, {"name": "must", "type": "string"}):
        widened = renamed("Evolving", base, bad)
        if "default" in bad:
            await registry._id(api, widened)
        else:
            with pytest.raises(
                IncompatibleSchema, match=r"/subjects/org\.runtide\.events\.Evolving/versions: .*ncompatible"
            ):
                await registry._id(api, widened)


async def test_an_id_that_the_registry_does_not_know_is_missing(settings: SchemaRegistrySettings) -> None:
    with pytest.raises(Missing):
        await RegistryApi(settings).schema(987_654)
    registry = SchemaRegistry(settings.model_copy(update={"patience": 0}))
    value = confluent.header(987_654) + b"x"
    await registry.learn([value])
    with pytest.raises(UnknownSchema, match="does not know schema id 987654"):
        codec.decode(value, registry.decoder)


async def test_a_foreign_schema_of_the_same_registry_is_no_event(settings: SchemaRegistrySettings) -> None:
    api = RegistryApi(settings)
    schema = {"type": "record", "name": "Order", "namespace": "com.example", "fields": [{"name": "n", "type": "int"}]}
    identifier = await api.register("com.example.Order", json.dumps(schema))
    registry, value = SchemaRegistry(settings), confluent.header(identifier) + b"\x02"
    await registry.learn([value])
    for _ in range(2):
        with pytest.raises(UnknownSchema, match=r"com\.example\.Order.*of no event type"):
            codec.decode(value, registry.decoder)


async def test_a_wrong_path_is_no_registry_and_no_unknown_id(running: Running) -> None:
    settings = SchemaRegistrySettings(url=f"{running.url}/elsewhere")
    with pytest.raises(FatalError, match=r"404.*Check RUNTIDE_SCHEMA_REGISTRY_URL"):
        await RegistryApi(settings).schema(1)


async def test_a_newer_writers_event_is_read(settings: SchemaRegistrySettings) -> None:
    """What a later version of ours will do: register the next version of a type, and send events of it."""
    newer = renamed("ParamsLogged", published_schema("ParamsLogged"), {"name": "note", "type": "string", "default": ""})
    await SchemaRegistry(settings).frame(codec.encode(sample("ParamsLogged")))
    identifier = await RegistryApi(settings).register("org.runtide.events.ParamsLogged", json.dumps(newer))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, newer, {"run_id": "r", "params": {"a": "1"}, "note": "later"})
    registry, value = SchemaRegistry(settings), confluent.header(identifier) + body.getvalue()
    await registry.learn([value])
    assert codec.decode(value, registry.decoder) == ParamsLogged(run_id="r", params={"a": "1"})


@pytest.mark.parametrize("name", ["RunStarted", "MetricsLogged", "AliasMoved", "InputsLogged"])
async def test_confluents_deserializer_reads_what_we_send(settings: SchemaRegistrySettings, name: str) -> None:
    event = sample(name)
    framed = await SchemaRegistry(settings).frame(codec.encode(event))
    read = AvroDeserializer(SchemaRegistryClient({"url": settings.url}))
    found: Any = read(framed, SerializationContext(EVENT_TYPES[name].topic, MessageField.VALUE))
    assert found["run_id" if hasattr(event, "run_id") else "name"] == (
        event.run_id if hasattr(event, "run_id") else event.name
    )
    if name == "MetricsLogged":
        assert found["step"] == event.step.tolist()
        assert [repr(one) for one in found["value"]] == [repr(one) for one in event.value.tolist()]
    assert found.keys() == as_record(event).keys()


async def test_we_read_what_confluents_serializer_sends(settings: SchemaRegistrySettings) -> None:
    event = sample("RunStarted")
    assert isinstance(event, RunStarted)
    client = SchemaRegistryClient({"url": settings.url})
    send = AvroSerializer(
        client,
        json.dumps(published_schema("RunStarted")),
        conf={"subject.name.strategy": record_subject_name_strategy, "auto.register.schemas": True},
    )
    value = send(as_record(event), SerializationContext("runtide.runs", MessageField.VALUE))
    assert isinstance(value, bytes)
    registry = SchemaRegistry(settings)
    await registry.learn([value])
    assert codec.decode(value, registry.decoder) == event
    assert value == await registry.frame(codec.encode(event))
    assert isinstance(client.get_schema(confluent.schema_id(value)), Schema)
