"""Produce and fetch through aiokafka, in MB/s and records/s, and the latency of single records. Printed, not judged."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from tests.broker_process import BrokerProcess, running_broker
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer, create_topic

PARTITIONS = 4
TOTAL_BYTES = 200 << 20

pytestmark = [pytest.mark.slow]


@pytest.fixture
def bench_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with running_broker(tmp_path / "data") as broker:
        yield broker


def resident_mebibytes(broker: BrokerProcess) -> int:
    assert broker.process is not None
    pages = int(Path(f"/proc/{broker.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.parametrize("size", [1_000, 10_000, 100_000])
async def test_produce_then_fetch(bench_broker: BrokerProcess, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    await create_topic(bench_broker.address, "t", PARTITIONS)
    count = min(TOTAL_BYTES // size, 60_000)
    value = os.urandom(size)
    async with aiokafka_producer(bench_broker.address, max_batch_size=256 << 10, linger_ms=5) as producer:
        start = time.perf_counter()
        sent = [await producer.send("t", value, partition=number % PARTITIONS) for number in range(count)]
        await asyncio.gather(*sent)
        produced = time.perf_counter() - start
    places = [TopicPartition("t", number) for number in range(PARTITIONS)]
    async with aiokafka_consumer(bench_broker.address) as consumer:
        consumer.assign(places)
        got, start = 0, time.perf_counter()
        while got < count:
            got += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        fetched = time.perf_counter() - start
    with capsys.disabled():
        print(
            f"\n{size:>7} bytes: produce {count * size / produced / 1e6:6.1f} MB/s {count / produced:8.0f}/s, "
            f"fetch {count * size / fetched / 1e6:6.1f} MB/s {count / fetched:8.0f}/s, "
            f"broker {resident_mebibytes(bench_broker)} MiB"
        )
    assert got == count


async def test_latency_of_single_records(bench_broker: BrokerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    await create_topic(bench_broker.address, "t")
    async with (
        aiokafka_producer(bench_broker.address, linger_ms=0) as producer,
        aiokafka_consumer(bench_broker.address) as consumer,
    ):
        consumer.assign([TopicPartition("t", 0)])
        acks, seen = [], []
        for _ in range(500):
            waiting = asyncio.create_task(consumer.getone())
            start = time.perf_counter()
            await producer.send_and_wait("t", b"x" * 100)
            acks.append(time.perf_counter() - start)
            await waiting
            seen.append(time.perf_counter() - start)
    with capsys.disabled():
        for name, delays in (("acks=all", sorted(acks)), ("end to end", sorted(seen))):
            print(f"\n{name}: p50 {delays[250] * 1e3:.1f} ms, p99 {delays[495] * 1e3:.1f} ms")
