"""What a reader of the log asks the broker for, while its records are taken slowly."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.fetch import FetchRequest

from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.log_reader import CHUNK_RECORDS, BatchLimits, LogReader
from runtide_schemas import topics
from tests.integration.sdk_log import broker_with_topics

PARTITIONS = {(topics.RUNS, 0), (topics.RUNS, 1)}
SMALL = BatchLimits(max_bytes=1)
"""A batch is one chunk."""
LONGER_THAN_AIOKAFKA_WAITS_S = 0.25


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaSettings]:
    with broker_with_topics(tmp_path / "broker") as broker:
        yield KafkaSettings(bootstrap=broker.address)


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = new_producer(kafka)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def burst(producer: AIOKafkaProducer, records: Iterable[int]) -> None:
    """Write records to one of the partitions."""
    sent = [await producer.send(topics.RUNS, b"%d" % number, partition=0) for number in records]
    await asyncio.gather(*sent)


def asked_for(monkeypatch: pytest.MonkeyPatch, reader: LogReader) -> list[set[tuple[str, int]]]:
    """Return a list that grows by the partitions of every fetch from now on."""
    fetches: list[set[tuple[str, int]]] = []
    client = reader._consumer._client
    send = client.send

    async def noting(node: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            fetches.append({(topic, partition) for topic, asked in request.topics for partition, *_ in asked})
        return await send(node, request, **options)

    monkeypatch.setattr(client, "send", noting)
    return fetches


async def test_a_burst_into_one_partition_is_never_behind_a_fetch_of_the_others(
    kafka: KafkaSettings, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka would ask for the others alone once a part of what was read is left for 0.1 s, and the broker holds that for 0.5 s."""
    await burst(producer, range(3 * CHUNK_RECORDS))
    reader = await LogReader.open(kafka, {topics.RUNS}, {})
    try:
        fetches = asked_for(monkeypatch, reader)
        wanted = asyncio.Event()
        taken: list[Any] = []
        more = iter(range(3 * CHUNK_RECORDS, 5 * CHUNK_RECORDS, CHUNK_RECORDS))
        while len(taken) < 5 * CHUNK_RECORDS:
            chunk = await reader.read(SMALL, wanted)
            taken += chunk
            await asyncio.sleep(LONGER_THAN_AIOKAFKA_WAITS_S)  # a batch is applied meanwhile
            if chunk and (first := next(more, None)) is not None:
                await burst(producer, range(first, first + CHUNK_RECORDS))
    finally:
        await reader.close()
    assert [record.value for record in taken] == [b"%d" % number for number in range(5 * CHUNK_RECORDS)]
    assert fetches
    assert [fetch for fetch in fetches if fetch != PARTITIONS] == []
