"""Kills, torn files, full disks: what was acknowledged is there afterwards, once and in order."""

import asyncio
import random
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from tests.broker_process import BrokerProcess, running_broker
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer, create_topic, read_all

WRITERS = 3
PARTITIONS = 3
ACKED_BETWEEN_KILLS = 150
UNANSWERED = 200
"""Records each writer has under way at once."""


class Writer:
    """One client that produces numbered values, and remembers which were acknowledged and where."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.acked: dict[tuple[int, int], bytes] = {}
        self._number = 0

    async def produce(self, producer: Any, topic: str, stopped: asyncio.Event) -> None:
        sent: set[asyncio.Task[None]] = set()
        while not stopped.is_set():
            value = b"%d:%d" % (self.name, self._number)
            partition = self._number % PARTITIONS
            self._number += 1
            future = await producer.send(topic, value.ljust(200, b"."), partition=partition)
            sent.add(asyncio.create_task(self._note(future, value)))
            if len(sent) > UNANSWERED:
                _, sent = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*sent)

    async def _note(self, future: Any, value: bytes) -> None:
        record = await future
        self.acked[record.partition, record.offset] = value


def acked_count(writers: list[Writer]) -> int:
    return sum(len(writer.acked) for writer in writers)


async def until_more_acked(writers: list[Writer]) -> None:
    wanted = acked_count(writers) + ACKED_BETWEEN_KILLS
    async with asyncio.timeout(60):
        while acked_count(writers) < wanted:  # noqa: ASYNC110  # the clients report, nobody signals
            await asyncio.sleep(0.005)


def tear(broker: BrokerProcess, topic: str) -> None:
    """Leave what a power cut leaves: part of a batch behind the last whole one."""
    last = sorted((broker.data / "topics" / f"{topic}-0").glob("*.log"))[-1]
    content = last.read_bytes()
    with last.open("ab") as file:
        file.write(content[: random.randrange(1, 200)])


async def kill_under_load(broker: BrokerProcess, topic: str, kills: int) -> None:
    await create_topic(broker.address, topic, partitions=PARTITIONS)
    writers, stopped = [Writer(number) for number in range(WRITERS)], asyncio.Event()
    async with (
        aiokafka_producer(broker.address, retry_backoff_ms=20) as first,
        aiokafka_producer(broker.address, retry_backoff_ms=20, compression_type="lz4") as second,
        aiokafka_producer(broker.address, retry_backoff_ms=20, linger_ms=0) as third,
    ):
        tasks = [
            asyncio.create_task(writer.produce(producer, topic, stopped))
            for writer, producer in zip(writers, (first, second, third), strict=True)
        ]
        for number in range(kills):
            await until_more_acked(writers)
            await asyncio.sleep(random.random() * 0.02)
            await asyncio.to_thread(broker.kill)
            if number % 2:
                tear(broker, topic)
            await asyncio.to_thread(broker.start)
        await until_more_acked(writers)
        stopped.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
    await check(broker, topic, writers)


async def check(broker: BrokerProcess, topic: str, writers: list[Writer]) -> None:
    """Every acknowledged value lies where the acknowledgement said; nothing is there twice; order is kept."""
    found = await read_all(broker.address, topic, partitions=PARTITIONS)
    stored = {(number, r.offset): r.value.rstrip(b".") for number, records in found.items() for r in records}
    for writer in writers:
        lost = {place: value for place, value in writer.acked.items() if stored.get(place) != value}
        assert not lost, f"writer {writer.name}: {len(lost)} of {len(writer.acked)} acknowledged records are not there"
    twice = [value for value, count in Counter(stored.values()).items() if count > 1]
    assert not twice, f"{len(twice)} records are there more than once: {twice[:5]}"
    for (number, _), names in _by_partition_and_writer(stored).items():
        assert names == sorted(names), f"a writer is out of order in partition {number}"


def _by_partition_and_writer(stored: dict[tuple[int, int], bytes]) -> dict[tuple[int, bytes], list[int]]:
    found: dict[tuple[int, bytes], list[int]] = {}
    for (partition, _), value in sorted(stored.items()):
        writer, number = value.split(b":")
        found.setdefault((partition, writer), []).append(int(number))
    return found


async def test_a_few_kills_under_load_lose_nothing(own_broker: BrokerProcess, topic: str) -> None:
    await kill_under_load(own_broker, topic, kills=4)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_fifty_kills_under_load_lose_nothing(tmp_path: Path, topic: str) -> None:
    with running_broker(tmp_path / "data", segment_bytes=100_000) as broker:
        await kill_under_load(broker, topic, kills=50)


async def test_a_torn_tail_is_cut_with_a_word_in_the_log(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic)
    async with aiokafka_producer(own_broker.address) as producer:
        for number in range(5):
            await producer.send_and_wait(topic, b"%d" % number)
    own_broker.kill()
    tear(own_broker, topic)
    own_broker.start()
    assert "torn bytes at the tail" in own_broker.log.read_text()
    async with aiokafka_producer(own_broker.address) as producer:
        assert (await producer.send_and_wait(topic, b"5")).offset == 5
    [records] = (await read_all(own_broker.address, topic)).values()
    assert [record.value for record in records] == [b"%d" % number for number in range(6)]


async def test_a_damaged_partition_is_refused_and_others_are_served(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic, partitions=2)
    async with aiokafka_producer(own_broker.address) as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 2)
    own_broker.stop()
    [file] = (own_broker.data / "topics" / f"{topic}-0").glob("*.log")
    content = bytearray(file.read_bytes())
    content[30] ^= 1
    file.write_bytes(content)
    own_broker.start()
    said = own_broker.log.read_text()
    assert f"{file} is damaged at byte 0" in said
    assert "this partition is not served" in said
    async with aiokafka_producer(own_broker.address, enable_idempotence=False, request_timeout_ms=1000) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(topic, b"x", partition=0)
        assert (await producer.send_and_wait(topic, b"x", partition=1)).offset == 5
    assert file.read_bytes() == bytes(content)
    async with aiokafka_consumer(own_broker.address) as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"1"


async def test_a_full_disk_delays_but_loses_nothing(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic)
    assert own_broker.process is not None
    pid = own_broker.process.pid
    async with aiokafka_producer(own_broker.address, retry_backoff_ms=50) as producer:
        await producer.send_and_wait(topic, b"before")
        # The kernel lets no file of the broker grow over 100 bytes, in the middle of a write, as a full disk would.
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, hard))
        waiting = [asyncio.create_task(producer.send_and_wait(topic, b"%d" % number * 100)) for number in range(3)]
        done, _ = await asyncio.wait(waiting, timeout=0.5)
        assert not done
        [file] = (own_broker.data / "topics" / f"{topic}-0").glob("*.log")
        assert file.stat().st_size < 100
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        offsets = [record.offset for record in await asyncio.wait_for(asyncio.gather(*waiting), 20)]
    assert offsets == [1, 2, 3]
    own_broker.restart()
    [records] = (await read_all(own_broker.address, topic)).values()
    assert [record.value for record in records] == [b"before", b"0" * 100, b"1" * 100, b"2" * 100]
