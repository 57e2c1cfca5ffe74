"""The foreign clients, set up as the broker's tests need them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

CONSUME_SECONDS = 60.0
"""Deadlines here are for machines under load; whoever waits is told at once."""


GIVEN_KAFKA = os.environ.get("RUNTIDE_TEST_KAFKA", "")
"""A Kafka that runs already, host:port, and that the tests are to use in place of one of their own."""
SHORT_SESSION_MS = 6_000 if GIVEN_KAFKA else 4_000
"""Session of a group member that is killed; Kafka itself allows no less than six seconds. On a busy machine even a living one is late."""


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Where a broker under test listens, or several of one cluster: host:port, with commas between them."""

    address: str

    @property
    def nodes(self) -> list[tuple[str, int]]:
        """Host and port of each."""
        pairs = (one.rpartition(":") for one in self.address.split(","))
        return [(host, int(port)) for host, _, port in pairs]

    @property
    def host(self) -> str:
        """Host of the first."""
        return self.nodes[0][0]

    @property
    def port(self) -> int:
        """Port of the first."""
        return self.nodes[0][1]


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = CONSUME_SECONDS) -> None:
    """Return once a condition holds: Apache Kafka answers some requests before every part of it knows the outcome."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def aiokafka_admin(address: str) -> AsyncIterator[Any]:
    """An aiokafka admin client."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create_topic(address: str, name: str, partitions: int = 1, replicas: int = 1, **config: str) -> None:
    """Create a topic and wait until it has its leaders; fails when the broker refuses."""
    async with aiokafka_admin(address) as admin:
        response = await admin.create_topics(
            [
                NewTopic(
                    name, partitions, replicas, topic_configs={key.replace("_", "."): v for key, v in config.items()}
                )
            ]
        )
        assert [error[1] for error in response.topic_errors] == [0], response
        async with asyncio.timeout(CONSUME_SECONDS):
            await _until_usable(admin, name, partitions)
            await _until_leading(address, [TopicPartition(name, number) for number in range(partitions)])


async def _until_usable(admin: Any, name: str, partitions: int) -> None:
    """Apache Kafka answers before its brokers know the topic."""
    while True:
        [found] = await admin.describe_topics([name])
        if sum(partition["leader"] >= 0 for partition in found["partitions"]) == partitions:
            return
        await asyncio.sleep(0.02)


async def _until_leading(address: str, partitions: list[TopicPartition]) -> None:
    """Apache Kafka names a leader before that one leads; aiokafka asks again until it does, a raw client is refused."""
    async with aiokafka_consumer(address) as consumer:
        await consumer.end_offsets(partitions)


@asynccontextmanager
async def aiokafka_producer(address: str, **options: Any) -> AsyncIterator[Any]:
    """An idempotent aiokafka producer with acks=all."""
    settings = {"enable_idempotence": True, "acks": "all", "linger_ms": 2} | options
    producer = AIOKafkaProducer(bootstrap_servers=address, **settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def aiokafka_consumer(address: str, *topics: str, **options: Any) -> AsyncIterator[Any]:
    """An aiokafka consumer that starts at the beginning and commits only when told."""
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False} | options
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=address, **settings)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_all(address: str, topic: str, partitions: int = 1, **options: Any) -> dict[int, list[Any]]:
    """Return every record of a topic by partition, read from the beginning to the end that it has now.

    Raises:
        TimeoutError: no record came for a minute.
    """
    places = [TopicPartition(topic, number) for number in range(partitions)]
    async with aiokafka_consumer(address, **options) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: dict[int, list[Any]] = {place.partition: [] for place in places}
        async with asyncio.timeout(CONSUME_SECONDS) as deadline:
            while any((found[p.partition][-1].offset + 1 if found[p.partition] else 0) < ends[p] for p in places):
                for place, records in (await consumer.getmany(timeout_ms=500)).items():
                    found[place.partition] += records
                    deadline.reschedule(asyncio.get_running_loop().time() + CONSUME_SECONDS)
    return found
