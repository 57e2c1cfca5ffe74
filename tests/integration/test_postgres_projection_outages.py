"""PostgreSQL or the broker goes away and comes back: the projector waits, and nothing is lost or doubled."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.partition_ends import checked_ends
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Batch, Event, TopicPartition
from runtide_deploy.standalone.postgres import PostgresCluster
from runtide_schemas import topics
from runtide_schemas.errors import LogTruncated, TransientError
from tests.broker_process import BrokerProcess
from tests.event_log import EventLog
from tests.integration.postgres_stack import PostgresStack, eventually, points, running_stack
from tests.integration.service_processes import started, with_topics
from tests.postgres import free_port, running

RUN = "a" * 32
COUNT = 40


async def write(publisher: DirectPublisher, numbers: range) -> None:
    """Log ten points per number."""
    for number in numbers:
        await publisher.publish(points(RUN, 10 * number, 10))


async def assert_exact(stack: PostgresStack) -> None:
    """Check that every point is there once."""
    await stack.becomes(10 * COUNT, "select sum(point_count)::int from metric_summaries")
    assert await stack.value("select max(last_step)::int from metric_summaries") == 10 * COUNT - 1
    assert await stack.rows("select * from writer_gaps") == []


async def test_postgresql_dies_and_comes_back(tmp_path: Path) -> None:
    cluster = PostgresCluster(tmp_path / "cluster", free_port(), settings={"shared_buffers": "64MB"})
    cluster.initialise()
    async with running_stack(tmp_path, cluster.dsn()) as stack:
        with started(stack.projector()) as projector:
            async with DirectPublisher(stack.kafka, "writer") as publisher:
                with running(cluster) as server:
                    await cluster.wait_ready(60)
                    await write(publisher, range(COUNT // 2))
                    projector.ready()
                    server.kill()
                await write(publisher, range(COUNT // 2, COUNT))

                async def noticed() -> bool:
                    return "trying again" in projector.log()

                await eventually(noticed, "the projector to notice")
                with running(cluster):
                    await cluster.wait_ready(60)
                    await assert_exact(stack)
                    assert projector.stop() == 0


async def test_the_broker_dies_and_comes_back(tmp_path: Path, postgres_dsn: str) -> None:
    broker = BrokerProcess(tmp_path / "broker").start()
    try:
        stack = PostgresStack(tmp_path, await with_topics(broker.address), postgres_dsn)
        with started(stack.projector()) as projector:
            projector.ready()
            async with DirectPublisher(stack.kafka, "writer") as publisher:
                await write(publisher, range(COUNT // 2))
                broker.kill()
                broker.start()
                await write(publisher, range(COUNT // 2, COUNT))
            await assert_exact(stack)
            assert projector.stop() == 0
    finally:
        broker.kill()


async def test_a_position_outside_of_the_log_stops(tmp_path: Path, postgres_dsn: str) -> None:
    async with running_stack(tmp_path, postgres_dsn) as stack:
        beyond = {TopicPartition(topics.RUNS, 0): 7}
        with pytest.raises(LogTruncated, match="read up to offset 7, but the log ends at 0"):
            await LogReader.open(stack.kafka, {topics.RUNS}, beyond)


async def delete_everything(kafka: KafkaSettings) -> None:
    """Delete all records of the metrics, as retention would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        [found] = await admin.describe_topics([topics.METRICS])
        numbers = range(len(found["partitions"]))
        places = {KafkaPartition(topics.METRICS, number): RecordsToDelete(before_offset=-1) for number in numbers}
        assert any((await admin.delete_records(places)).values())
    finally:
        await admin.close()


async def a_reader_passed_while_it_starts(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete everything after the reader has found its position good, before it fetches."""

    async def then_deleted(consumer: Any, starts: Any) -> Any:
        ends = await checked_ends(consumer, starts)
        await delete_everything(kafka)
        return ends

    with monkeypatch.context() as patched:
        patched.setattr("runtide_consumers.log_reader.checked_ends", then_deleted)
        reader = await LogReader.open(kafka, {topics.METRICS}, {})
    wanted = asyncio.Event()
    wanted.set()
    with pytest.raises(LogTruncated, match="does not hold the next offset any more"):
        for _ in range(10):
            await reader.fetch(BatchLimits(), wanted)
    await reader.close()


async def test_a_projection_that_retention_has_passed_stops_and_says_so(
    tmp_path: Path, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_stack(tmp_path, postgres_dsn) as stack, DirectPublisher(stack.kafka, "writer") as publisher:
        with started(stack.projector()) as projector:
            await write(publisher, range(2))
            await stack.becomes(20, "select sum(point_count)::int from metric_summaries")
            assert projector.stop() == 0
        await write(publisher, range(2, 4))
        await a_reader_passed_while_it_starts(stack.kafka, monkeypatch)
        with started(stack.projector("late")) as late:
            assert late.wait() == 3
            assert "retention has passed this projection" in late.log()
        assert await stack.value("select sum(point_count)::int from metric_summaries") == 20


async def test_a_batch_whose_commit_was_heard_of_by_nobody_is_not_applied_again(postgres_dsn: str) -> None:
    log = EventLog()
    log.add(points(RUN, 0, 10))
    batch = log.everything()
    projection = PostgresProjection(postgres_dsn)
    await projection.open()
    await projection.apply(batch)
    with pytest.raises(TransientError, match="positions have moved"):
        await projection.apply(batch)
    assert await projection.positions() == batch.positions
    [(partition, events)] = log.partitions.items()
    again = Event(events[0].origin, events[0].envelope, events[0].body)
    await projection.apply(Batch((again,), (), {partition: 2}, {partition: 1}))
    assert projection.duplicates == 1
    await projection.close()
