"""With a schema registry: what is published refers to it, whoever publishes; without it nothing is lost, only late."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtide
from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide.publisher.pool import stop_all
from runtide.schema_registry import registry_for
from runtide.spool.segment import SegmentReader
from runtide.sync import find_spools, sync
from runtide_schemas import confluent
from runtide_schemas.errors import FatalError
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import ParamsLogged, RunEnded, TagsDeleted, TagsSet
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import (
    Logged,
    assert_complete,
    bodies,
    broker_with_topics,
    child,
    finished,
    points_of,
    read_log,
)
from tests.schema_registry_double import Contents, SchemaRegistryDouble

ENDED = "org.runtide.events.RunEnded"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("broker") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def contents() -> Contents:
    """What the registry holds: a log belongs to one registry, as the ids in it are that one's."""
    return Contents()


@pytest.fixture
def registry(contents: Contents, monkeypatch: pytest.MonkeyPatch) -> Iterator[SchemaRegistryDouble]:
    with SchemaRegistryDouble(contents=contents) as double:
        monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_URL", double.url)
        yield double
        stop_all()


@pytest.fixture
def spool(tmp_path: Path, broker: BrokerProcess, registry: SchemaRegistryDouble) -> Path:
    runtide.init(experiment="digits", broker=broker.address, spool=tmp_path / "spool")
    return tmp_path / "spool"


def train(name: str) -> str:
    with runtide.start_run(name, tags={"team": "blue"}) as run:
        run.log_params({"rate": 0.1})
        for step in range(1_000):
            run.log_metric("loss", step * 0.5, step=step)
        run.set_tag("stage", "test")
    return run.run_id


def assert_framed(events: list[Logged]) -> None:
    assert {event.value[:1] for event in events} == {b"\x00"}
    assert len({confluent.schema_id(event.value) for event in events}) == len({type(event.body) for event in events})


def test_what_the_sdk_publishes_is_in_the_wire_format(broker: BrokerProcess, spool: Path) -> None:
    events = read_log(broker.address, train("framed"))
    assert_framed(events)
    assert_complete(events)
    assert points_of(events, "loss") == [(step, step * 0.5) for step in range(1_000)]


def test_a_spool_of_before_there_was_a_registry_is_sent_with_the_same_bodies(
    broker: BrokerProcess, registry: SchemaRegistryDouble, tmp_path: Path
) -> None:
    runtide.init(experiment="digits", broker="", spool=tmp_path / "spool")
    run_id = train("offline")
    segments = [SegmentReader(path) for path in sorted((tmp_path / "spool").glob("*/*/*.avro"))]
    spooled = {(event.type, event.seq): event.body for segment in segments for event in segment}
    assert len(spooled) > 5
    assert registry.requests == []
    report = sync(find_spools([tmp_path / "spool"]), KafkaSettings(bootstrap=broker.address))
    assert report.complete
    events = read_log(broker.address, run_id)
    assert_framed(events)
    assert_complete(events)
    assert {(event.envelope.type, event.envelope.seq): event.value[5:] for event in events} == spooled


def test_events_wait_in_the_spool_while_the_registry_is_away(
    broker: BrokerProcess, registry: SchemaRegistryDouble, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.stop()
    with runtide.start_run("late") as run:
        run.log_metric("loss", 0.5)
        wait_until(lambda: "schema registry is away" in run.writer.publisher.trouble)
        assert not run.flush(timeout=0.2)
        assert "Training goes on; everything is kept in the spool" in caplog.text
        registry.start()
        assert run.flush(timeout=60)
        assert run.writer.publisher.trouble == ""
    events = read_log(broker.address, run.run_id)
    assert_framed(events)
    assert_complete(events)


def test_a_registry_lost_in_the_middle_holds_up_only_what_it_has_not_seen(
    broker: BrokerProcess, registry: SchemaRegistryDouble, spool: Path
) -> None:
    with runtide.start_run("middle", tags={"a": "1"}) as run:
        run.log_metric("loss", 0.0, step=0)
        assert run.flush(timeout=60)
        registry.stop()
        for step in range(1, 500):
            run.log_metric("loss", float(step), step=step)
        assert run.flush(timeout=60), "a schema that is known needs no registry"
        run.delete_tag("a")
        assert not run.flush(timeout=0.3)
        registry.start()
        assert run.flush(timeout=60)
    events = read_log(broker.address, run.run_id)
    assert_framed(events)
    assert_complete(events)
    assert len(points_of(events, "loss")) == 500
    assert [body.keys for body in bodies(events, TagsDeleted)] == [("a",)]


def test_a_refused_schema_is_said_and_training_goes_on(
    broker: BrokerProcess, registry: SchemaRegistryDouble, spool: Path
) -> None:
    foreign = {"type": "record", "name": "RunEnded", "namespace": "org.runtide.events", "fields": []}
    registry.contents.schemas.append(json.dumps(foreign))
    registry.contents.levels[ENDED] = "FULL_TRANSITIVE"
    before = registry.contents.subjects.get(ENDED, [])
    registry.contents.subjects[ENDED] = [len(registry.contents.schemas)]

    def repair() -> None:
        """Wait for the complaint, and then do what an operator would."""
        wait_until(lambda: f"refuses POST /subjects/{ENDED}/versions" in publisher.trouble)
        registry.contents.subjects[ENDED] = before

    with runtide.start_run("refused") as run:
        run.log_metric("loss", 0.5)
        assert run.flush(timeout=60)
        publisher = run.writer.publisher
        repairing = threading.Thread(target=repair)
        repairing.start()
    repairing.join()
    assert [body.status for body in bodies(read_log(broker.address, run.run_id), RunEnded)] == ["FINISHED"]


async def test_a_service_registers_everything_before_it_publishes(
    broker: BrokerProcess, registry: SchemaRegistryDouble
) -> None:
    settings = KafkaSettings(bootstrap=broker.address)
    async with DirectPublisher(settings, service="test") as publisher:
        assert len(registry.contents.subjects) == len(registry.contents.levels) > 60
        published = await publisher.publish(CreateExperiment(name="a"))
        await publisher.publish(ParamsLogged(run_id="r", params={"p": "1"}))
    events = [one for one in await asyncio.to_thread(read_log, broker.address) if one.envelope.id == published.id]
    assert_framed(events)
    assert events[0].body == CreateExperiment(name="a")


async def test_a_service_that_may_not_register_what_is_missing_does_not_start(
    broker: BrokerProcess, registry: SchemaRegistryDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.contents = Contents()
    monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_REGISTER_SCHEMAS", "false")
    with pytest.raises(
        FatalError, match=r"lacks a schema of subject org\.runtide\.events\.\w+.*python -m runtide\.schema_registry"
    ):
        async with DirectPublisher(KafkaSettings(bootstrap=broker.address), service="test"):
            pass
    assert registry.contents.subjects == {}


async def test_a_service_starts_while_the_registry_is_away_and_publishes_when_it_is_back(
    broker: BrokerProcess, registry: SchemaRegistryDouble
) -> None:
    registry.stop()
    async with DirectPublisher(KafkaSettings(bootstrap=broker.address), service="test") as publisher:
        publishing = asyncio.create_task(publisher.publish(TagsSet(run_id="r", tags={})))
        await asyncio.sleep(0.3)
        assert not publishing.done()
        await asyncio.to_thread(registry.start)
        await publishing


def test_an_unusable_setting_leaves_everything_in_the_spool(
    broker: BrokerProcess, registry: SchemaRegistryDouble, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_URL", "registry:8081")
    with runtide.start_run("unusable") as run:
        run.log_metric("loss", 0.5)
        wait_until(lambda: "RUNTIDE_SCHEMA_REGISTRY_URL holds 'registry:8081'" in run.writer.publisher.trouble)
        stop_all()
    monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_URL", registry.url)
    assert sync(find_spools([spool]), KafkaSettings(bootstrap=broker.address)).complete
    assert_complete(read_log(broker.address, run.run_id))


def test_one_view_of_a_registry_per_process(registry: SchemaRegistryDouble) -> None:
    settings = KafkaSettings(bootstrap="h:1").schema_registry
    assert settings.url == registry.url
    assert registry_for(settings) is registry_for(KafkaSettings(bootstrap="h:2").schema_registry)


def test_what_a_script_logs_just_before_it_exits_is_framed_and_delivered(
    broker: BrokerProcess, registry: SchemaRegistryDouble, tmp_path: Path
) -> None:
    """While the interpreter exits no thread can be started and executors refuse work: the client needs neither."""
    script = "import runtide; runtide.init(experiment='exit'); runtide.log_metric('loss', 0.5); print(runtide.active_run().run_id)"
    url = {"RUNTIDE_SCHEMA_REGISTRY_URL": registry.url}
    code, out, errors = finished(child(script, broker=broker.address, spool=tmp_path / "spool", variables=url))
    assert (code, errors) == (0, "")
    events = read_log(broker.address, out.strip())
    assert_framed(events)
    assert_complete(events)
