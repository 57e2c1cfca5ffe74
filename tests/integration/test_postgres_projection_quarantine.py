"""What cannot be applied is parked with the reason, what comes after it of the same run waits, everything else flows."""

import base64
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from kio.schema.errors import ErrorCode
from kio.schema.produce.v10.request import PartitionProduceData, ProduceRequest, TopicProduceData
from kio.schema.types import TopicName
from kio.static.primitive import Records, i16, i32, i32Timedelta

from runtide.direct import DirectPublisher
from runtide.kafka import new_producer
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import Envelope, make_envelope, to_headers
from runtide_schemas.events.runs import DatasetInput, InputsLogged, ParamsLogged, RunStarted, TagsSet
from tests.broker_process import RawClient
from tests.integration.postgres_stack import AT, PostgresStack, running_stack
from tests.integration.service_processes import started

BAD, GOOD = "a" * 32, "b" * 32
WRITER = "c" * 32


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


@pytest.fixture
async def producer(stack: PostgresStack) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that sends whatever it is told to."""
    producer = new_producer(stack.kafka)
    await producer.start()
    yield producer
    await producer.stop()


def envelope(event_type: str, seq: int, subject: str = BAD) -> Envelope:
    """Return an envelope of the test's writer."""
    return make_envelope(event_type, subject=subject, writer=WRITER, seq=seq, time=AT)


async def send(producer: AIOKafkaProducer, body: Any, seq: int, value: bytes | None = None) -> None:
    """Send an event of the bad run, perhaps with another value than its own."""
    headers = to_headers(envelope(type(body).__name__, seq))
    await producer.send_and_wait(topics.RUNS, value or encode(body), key=BAD.encode(), headers=headers)


async def test_an_unreadable_event_parks_and_later_ones_of_its_run_wait(
    stack: PostgresStack, producer: AIOKafkaProducer
) -> None:
    with started(stack.projector()) as projector:
        projector.ready()
        await send(producer, RunStarted(run_id=BAD, name="bad", start_time=AT), 0)
        await send(producer, TagsSet(run_id=BAD, tags={"a": "1"}), 1, value=b"\xc3\x01garbage.")
        await send(producer, TagsSet(run_id=BAD, tags={"a": "2"}), 2)
        async with DirectPublisher(stack.kafka, "good") as good:
            await good.publish(RunStarted(run_id=GOOD, name="good", start_time=AT))
            await stack.becomes(True, "select started from runs where run_id = $1", GOOD)
        await stack.becomes(2, "select count(*)::int from quarantine")
        projector.kill()
    with started(projector):
        projector.ready()
        await send(producer, TagsSet(run_id=BAD, tags={"a": "3"}), 3)
        await stack.becomes(3, "select count(*)::int from quarantine")
    rows = await stack.rows("select entity, kind, value, headers, parked_at from quarantine order by record_offset")
    assert [(row["entity"], row["kind"]) for row in rows] == [
        (BAD, "unknown_schema"),
        (BAD, "behind"),
        (BAD, "behind"),
    ]
    assert rows[0]["value"] == b"\xc3\x01garbage."
    headers = {name: base64.b64decode(value).decode() for name, value in json.loads(rows[0]["headers"])}
    assert (headers["ce_type"], headers["runtide_seq"]) == ("org.runtide.TagsSet", "1")
    assert await stack.rows("select name from runs where started order by name") == [{"name": "bad"}, {"name": "good"}]
    assert await stack.rows("select * from tags") == []
    assert await stack.value("select next_seq from writer_positions where run_id = $1", BAD) == 1


async def test_what_only_the_database_refuses_is_found_in_its_batch_and_parked(
    stack: PostgresStack, producer: AIOKafkaProducer
) -> None:
    """A dataset name that no index can hold: valid by contract, SQLSTATE 54000 in PostgreSQL."""
    too_long = Random(1).randbytes(20_000).hex()
    for number in range(40):
        body = ParamsLogged(run_id=GOOD, params={f"p{number}": "1"})
        headers = to_headers(envelope("ParamsLogged", number, GOOD))
        await producer.send_and_wait(topics.RUNS, encode(body), key=GOOD.encode(), headers=headers)
        if number == 20:
            await send(producer, InputsLogged(run_id=BAD, datasets=(DatasetInput(name=too_long, digest="1"),)), 0)
            await send(producer, TagsSet(run_id=BAD, tags={"a": "2"}), 1)
    with started(stack.projector()) as projector:
        projector.ready()
        assert await stack.value("select count(*)::int from params") == 40
        rows = await stack.rows("select entity, kind, reason from quarantine order by record_offset")
        assert [(row["entity"], row["kind"]) for row in rows] == [(BAD, "invalid"), (BAD, "behind")]
        assert "ProgramLimitExceeded" in rows[0]["reason"]


async def test_a_batch_that_the_kafka_client_cannot_parse_is_parked_and_passed(stack: PostgresStack) -> None:
    """aiokafka decodes header names as UTF-8 and would raise on this partition for ever."""
    async with DirectPublisher(stack.kafka, "good") as good:
        await good.publish(RunStarted(run_id=GOOD, name="good", start_time=AT), partition=0)
        _produce(stack.kafka.bootstrap, topics.RUNS, 0, _with_bad_header_name())
        await good.publish(TagsSet(run_id=GOOD, tags={"after": "1"}), partition=0)
    with started(stack.projector()) as projector:
        projector.ready()
        await stack.becomes("1", "select value from tags where key = 'after'")
        rows = await stack.rows("select partition, record_offset, kind, entity, reason from quarantine")
        assert [(row["partition"], row["record_offset"], row["kind"], row["entity"]) for row in rows] == [
            (0, 1, "undecodable", ""),
            (0, 2, "undecodable", ""),
        ]
        assert "cannot be parsed" in rows[0]["reason"]


async def test_too_many_parked_events_stop_the_projector(stack: PostgresStack, producer: AIOKafkaProducer) -> None:
    for number in range(200):
        await producer.send(topics.RUNS, b"not ours", key=str(number).encode())
    await producer.flush()
    with started(stack.projector()) as projector:
        assert projector.wait() == 3
        assert "could not be applied" in projector.log().splitlines()[-1]
    assert await stack.value("select count(*)::int from quarantine") == 0


def _with_bad_header_name() -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for number in range(2):
        builder.append(number, AT, b"key", b"value", [("placeholder", b"x")])
    batch = bytearray(builder.build())
    while (place := batch.find(b"placeholder")) >= 0:
        batch[place : place + 11] = b"\xff" * 11
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


def _produce(bootstrap: str, topic: str, partition: int, batch: bytes) -> None:
    data = PartitionProduceData(index=i32(partition), records=Records(batch))
    request = ProduceRequest(
        transactional_id=None,
        acks=i16(-1),
        timeout=i32Timedelta.parse(datetime.timedelta(seconds=10)),
        topic_data=(TopicProduceData(name=TopicName(topic), partition_data=(data,)),),
    )
    client = RawClient(int(bootstrap.rsplit(":", 1)[1]))
    response = client.ask(request)
    assert response.responses[0].partition_responses[0].error_code is ErrorCode.none
    client.close()
