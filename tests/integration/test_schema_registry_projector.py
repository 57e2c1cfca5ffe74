"""A projector and a log that refers to a schema registry: it waits, stops or parks, each where it is right."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, new_producer
from runtide_queries.log import Log
from runtide_schemas import confluent, topics
from runtide_schemas.codec import encode_body
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.runs import RunStarted, TagsSet
from tests.integration.service_processes import Service, running_broker, with_topics
from tests.integration.test_duckdb_process import AT, Stack, ask
from tests.schema_registry_double import SchemaRegistryDouble

RUN, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def registry() -> Iterator[SchemaRegistryDouble]:
    with SchemaRegistryDouble() as double:
        yield double


@pytest.fixture
async def stack(
    tmp_path: Path, registry: SchemaRegistryDouble, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """A broker whose log holds one run in the wire format and one as we send it by default."""
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        async with DirectPublisher(kafka, "test") as publisher:
            await publisher.publish(RunStarted(run_id=OTHER, name="plain", start_time=AT))
        monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_URL", registry.url)
        monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_PATIENCE", "1")
        kafka = KafkaSettings(bootstrap=broker.bootstrap)
        async with DirectPublisher(kafka, "test") as publisher:
            await publisher.publish(RunStarted(run_id=RUN, name="framed", start_time=AT))
            await publisher.publish(TagsSet(run_id=RUN, tags={"a": "1"}))
        file, token = tmp_path / "history.duckdb", tmp_path / "token"
        arguments = ("--file", str(file), "--query-port", "0", "--token-file", str(token))
        service = Service(tmp_path, "duckdb", "runtide_consumers.duckdb", *arguments, bootstrap=broker.bootstrap)
        yield Stack(kafka, service, file, token)
        service.kill()


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


async def publish_with_unknown_id(kafka: KafkaSettings) -> None:
    body = TagsSet(run_id=OTHER, tags={"a": "1"})
    envelope = make_envelope("TagsSet", subject=OTHER, writer="w", seq=0, time=AT)
    producer = new_producer(kafka)
    await producer.start()
    value = confluent.header(4_000) + encode_body(body)
    await producer.send_and_wait(topics.RUNS, value, key=OTHER.encode(), headers=to_headers(envelope))
    await producer.stop()


async def test_it_waits_for_the_registry_and_parks_only_what_nobody_knows(
    stack: Stack, registry: SchemaRegistryDouble
) -> None:
    await publish_with_unknown_id(stack.kafka)
    registry.stop()
    stack.history.start()
    await asyncio.to_thread(until, lambda: "the schema registry is away" in stack.history.log(), "it says what is away")
    registry.start()
    address = await asyncio.to_thread(stack.history.ready)
    with stack.client(address.split()[-1]) as client:
        assert sorted(ask(client, "SELECT name FROM runs")) == [("framed",), ("plain",)]
        assert ask(client, "SELECT run_id, key, value FROM tags") == [(RUN, "a", "1")]
        parked = ask(client, "SELECT entity, kind, reason FROM quarantine")
    assert parked == [(OTHER, "unknown_schema", f"the schema registry {registry.url} does not know schema id 4000")]


async def test_without_the_setting_it_stops_and_parks_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RUNTIDE_SCHEMA_REGISTRY_URL")
    arguments = ("--file", str(stack.file), "--query-port", "0", "--token-file", str(stack.token))
    alone = Service(tmp_path, "alone", "runtide_consumers.duckdb", *arguments, bootstrap=stack.kafka.bootstrap)
    alone.start()
    assert await asyncio.to_thread(alone.wait) == 3
    assert "Set RUNTIDE_SCHEMA_REGISTRY_URL to the registry that its writer uses" in alone.log().splitlines()[-1]
    stack.history.start()
    address = await asyncio.to_thread(stack.history.ready)
    with stack.client(address.split()[-1]) as client:
        assert ask(client, "SELECT count(*) FROM quarantine") == [(0,)]
        assert sorted(ask(client, "SELECT name FROM runs")) == [("framed",), ("plain",)]


async def test_the_log_is_shown_in_both_encodings_and_says_which_setting_is_missing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(stack.kafka)
    assert [event.body.name async for event in log.events(OTHER)] == ["plain"]
    assert [type(event.body).__name__ async for event in log.events(RUN)] == ["RunStarted", "TagsSet"]
    monkeypatch.delenv("RUNTIDE_SCHEMA_REGISTRY_URL")
    unset = Log(KafkaSettings(bootstrap=stack.kafka.bootstrap))
    problems = [event.problem async for event in unset.events(RUN)]
    assert len(problems) == 2
    assert all("RUNTIDE_SCHEMA_REGISTRY_URL" in problem for problem in problems)
