"""What is measured of a broker: produce and fetch throughput, latency at a steady rate, memory under many clients."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from runtide.kafka import KafkaSettings, new_consumer, new_producer
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.metrics import MetricsLogged
from tests.benchmarks.kafka_brokers import Running
from tests.benchmarks.raw_fetch import RawFetcher
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer, create_topic

PARTITIONS = 4
LARGEST_TOTAL_BYTES, LARGEST_COUNT = 100 << 20, 40_000
STEADY_RATE, STEADY_SECONDS, WARM_UP_SECONDS = 1_000, 4.0, 1.0
CLIENT_PAIRS, PAIR_BYTES = 5, 100 << 20

Headers = Sequence[tuple[str, bytes]]


class Traffic(NamedTuple):
    """Records to send: ``total`` times one value with its headers."""

    name: str
    value: bytes
    headers: Headers = ()

    @property
    def total(self) -> int:
        """Records of one measurement, the same number to each partition."""
        return min(LARGEST_TOTAL_BYTES // len(self.value), LARGEST_COUNT) // PARTITIONS * PARTITIONS


def plain(size: int) -> Traffic:
    """Random bytes."""
    return Traffic(f"{size // 1000} KB", os.urandom(size))


def our_events() -> Traffic:
    """MetricsLogged events of 800 points, as a trainer under load sends them."""
    points = np.arange(800)
    keys = tuple(f"train/metric_{number}" for number in range(10))
    body = MetricsLogged(
        run_id="0123456789abcdef" * 2,
        keys=keys,
        key_index=(points % 10).astype(np.int32),
        step=points // 10,
        timestamp=1_700_000_000_000 + points,
        value=np.random.default_rng(7).standard_normal(800),
    )
    envelope = make_envelope("MetricsLogged", subject=body.run_id, writer="w" * 32, seq=1, time=1_700_000_000_000)
    return Traffic("events", encode(body), to_headers(envelope))


Step = Callable[[Running], Awaitable[dict[str, float]]]
"""One measurement of one broker; the brokers take turns at each."""


def throughput(traffic: Traffic) -> list[Step]:
    """Return the steps that produce and fetch with our own clients' settings, and drain without decoding."""
    topic, megabytes = traffic.name.replace(" ", "-"), traffic.total * len(traffic.value) / 1e6

    async def produce(broker: Running) -> dict[str, float]:
        await create_topic(broker.address, topic, PARTITIONS)
        seconds = await _produce(broker.address, topic, traffic, traffic.total)
        return {
            f"{traffic.name}: produce MB/s": megabytes / seconds,
            f"{traffic.name}: produce records/s": traffic.total / seconds,
        }

    async def fetch(broker: Running) -> dict[str, float]:
        return {f"{traffic.name}: fetch MB/s": megabytes / await _fetch(broker.address, topic, traffic.total)}

    async def drain(broker: Running) -> dict[str, float]:
        busy = broker.cpu_seconds()
        seconds = await asyncio.to_thread(_drain, broker.address, topic, traffic.total)
        return {
            f"{traffic.name}: raw fetch MB/s": megabytes / seconds,
            f"{traffic.name}: raw fetch CPU s/GB": (broker.cpu_seconds() - busy) / megabytes * 1e3,
        }

    return [produce, fetch, drain]


async def _produce(address: str, topic: str, traffic: Traffic, count: int) -> float:
    producer: AIOKafkaProducer = new_producer(KafkaSettings(bootstrap=address))
    await producer.start()
    try:
        start = time.perf_counter()
        sent = [
            await producer.send(topic, traffic.value, partition=number % PARTITIONS, headers=traffic.headers)
            for number in range(count)
        ]
        await asyncio.gather(*sent)
        return time.perf_counter() - start
    finally:
        await producer.stop()


async def _fetch(address: str, topic: str, count: int) -> float:
    consumer: AIOKafkaConsumer = new_consumer(KafkaSettings(bootstrap=address))
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        got, start = 0, time.perf_counter()
        while got < count:
            got += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        return time.perf_counter() - start
    finally:
        await consumer.stop()


def _drain(address: str, topic: str, count: int) -> float:
    fetcher = RawFetcher(address, topic, PARTITIONS)
    try:
        start = time.perf_counter()
        fetcher.drain(dict.fromkeys(range(PARTITIONS), count // PARTITIONS))
        return time.perf_counter() - start
    finally:
        fetcher.close()


async def latency(broker: Running) -> dict[str, float]:
    """Send small records at a steady rate, each at its time whatever became of those before (no coordinated omission).

    Delays count from the time at which a record was due, to its acknowledgement and to its arrival at a consumer.
    """
    await create_topic(broker.address, "steady")
    count = int(STEADY_RATE * (WARM_UP_SECONDS + STEADY_SECONDS))
    acknowledged: list[float] = []
    async with (
        aiokafka_producer(broker.address, linger_ms=0) as producer,
        aiokafka_consumer(broker.address) as consumer,
    ):
        consumer.assign([TopicPartition("steady", 0)])
        seeing = asyncio.create_task(_see(consumer, count))
        begin = time.perf_counter() + 0.05
        for number in range(count):
            due = begin + number / STEADY_RATE
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            sent = await producer.send("steady", due.hex().encode().ljust(100))
            sent.add_done_callback(lambda _, due=due: acknowledged.append(time.perf_counter() - due))
        seen = await asyncio.wait_for(seeing, 60)
        await producer.flush()
    warm_up = int(STEADY_RATE * WARM_UP_SECONDS)
    return {
        f"{STEADY_RATE}/s: {name} {label} ms": sorted(delays[warm_up:])[int((count - warm_up) * share)] * 1e3
        for name, delays in (("acks=all", acknowledged), ("end to end", seen))
        for label, share in (("p50", 0.5), ("p99", 0.99))
    }


async def _see(consumer: Any, count: int) -> list[float]:
    delays: list[float] = []
    while len(delays) < count:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            now = time.perf_counter()
            delays += [now - float.fromhex(record.value.decode()) for record in records]
    return delays


async def memory(broker: Running) -> dict[str, float]:
    """Return its memory idle and after 1 GB of traffic: five producers, then five consumers, 100 MiB each."""
    found = {"idle: resident MiB": broker.mebibytes("Rss"), "idle: proportional MiB": broker.mebibytes("Pss")}
    traffic = plain(16_000)
    await create_topic(broker.address, "many", PARTITIONS)
    each = PAIR_BYTES // len(traffic.value) // PARTITIONS * PARTITIONS
    await asyncio.gather(*(_produce(broker.address, "many", traffic, each) for _ in range(CLIENT_PAIRS)))
    await asyncio.gather(*(_fetch(broker.address, "many", each) for _ in range(CLIENT_PAIRS)))
    return found | {
        "after 1 GB: resident MiB": broker.mebibytes("Rss"),
        "after 1 GB: proportional MiB": broker.mebibytes("Pss"),
    }
