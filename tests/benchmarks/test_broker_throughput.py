"""Produce and fetch through aiokafka on both brokers, in MB/s and records/s, and the latency of single records.

Printed, not judged. The brokers take turns (ABAB), each round on new ones; what is printed are medians of the rounds.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from runtide_deploy.apache_kafka import ApacheKafka, ApacheKafkaSettings, CannotResolve, resolve_class_path
from tests.broker_process import running_broker
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer, create_topic

PARTITIONS = 4
ROUNDS = 3
LARGEST_TOTAL_BYTES, LARGEST_COUNT = 100 << 20, 40_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Running(NamedTuple):
    """A broker to measure."""

    address: str
    pid: int

    def resident_mebibytes(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@contextmanager
def embedded(data: Path) -> Iterator[Running]:
    with running_broker(data) as broker:
        assert broker.process is not None
        yield Running(broker.address, broker.process.pid)


@contextmanager
def apache(data: Path, sync_appends: bool = True) -> Iterator[Running]:
    with ApacheKafka(ApacheKafkaSettings(data=data, port=0, sync_appends=sync_appends)).running() as node:
        assert node.process is not None
        yield Running(node.address, node.process.pid)


@contextmanager
def apache_without_sync(data: Path) -> Iterator[Running]:
    """As Apache Kafka comes: acknowledged records may still be lost with the power."""
    with apache(data, sync_appends=False) as running:
        yield running


BROKERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    "embedded": embedded,
    "Apache Kafka": apache,
    "Apache Kafka, no sync": apache_without_sync,
}


@pytest.fixture
def names() -> list[str]:
    """The brokers that can be had here."""
    try:
        resolve_class_path()
    except CannotResolve as error:
        print(f"only the embedded broker: {str(error).splitlines()[0]}")
        return ["embedded"]
    return list(BROKERS)


async def measure_throughput(broker: Running, size: int) -> dict[str, float]:
    """Produce, then fetch."""
    await create_topic(broker.address, "t", PARTITIONS)
    count = min(LARGEST_TOTAL_BYTES // size, LARGEST_COUNT)
    value = os.urandom(size)
    async with aiokafka_producer(broker.address, max_batch_size=256 << 10, linger_ms=5) as producer:
        start = time.perf_counter()
        sent = [await producer.send("t", value, partition=number % PARTITIONS) for number in range(count)]
        await asyncio.gather(*sent)
        produced = time.perf_counter() - start
    async with aiokafka_consumer(broker.address) as consumer:
        consumer.assign([TopicPartition("t", number) for number in range(PARTITIONS)])
        got, start = 0, time.perf_counter()
        while got < count:
            got += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        fetched = time.perf_counter() - start
    assert got == count
    return {
        "produce MB/s": count * size / produced / 1e6,
        "produce records/s": count / produced,
        "fetch MB/s": count * size / fetched / 1e6,
        "fetch records/s": count / fetched,
        "broker MiB": broker.resident_mebibytes(),
    }


async def measure_latency(broker: Running, _: int) -> dict[str, float]:
    """One record at a time."""
    await create_topic(broker.address, "t")
    acks, seen = [], []
    async with (
        aiokafka_producer(broker.address, linger_ms=0) as producer,
        aiokafka_consumer(broker.address) as consumer,
    ):
        consumer.assign([TopicPartition("t", 0)])
        for _ in range(500):
            waiting = asyncio.create_task(consumer.getone())
            start = time.perf_counter()
            await producer.send_and_wait("t", b"x" * 100)
            acks.append((time.perf_counter() - start) * 1e3)
            await waiting
            seen.append((time.perf_counter() - start) * 1e3)
    return {
        f"{name} {label} ms": sorted(delays)[index]
        for name, delays in (("acks=all", acks), ("end to end", seen))
        for label, index in (("p50", 250), ("p99", 495))
    }


@pytest.mark.parametrize(
    ("measure", "size"),
    [(measure_throughput, 1_000), (measure_throughput, 16_000), (measure_latency, 100)],
    ids=["1 KB", "16 KB", "latency"],
)
def test_brokers_in_turns(
    measure: Callable[[Running, int], Coroutine[Any, Any, dict[str, float]]],
    size: int,
    names: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names:
            start = time.perf_counter()
            with BROKERS[name](tmp_path / f"{names.index(name)}-{number}") as running:
                ready = time.perf_counter() - start
                found[name].append({"start s": ready, **asyncio.run(measure(running, size))})
    with capsys.disabled():
        for name, rounds in found.items():
            medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            print(f"\n{size:>6} bytes, {name}: " + ", ".join(f"{key} {value:.1f}" for key, value in medians.items()))
