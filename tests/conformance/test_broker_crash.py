"""Kills, torn files, full disks: what was acknowledged is there afterwards, once and in order."""

import asyncio
import logging
import random
import resource
import time
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from tests.broker_process import BrokerProcess, running_broker, wait_until
from tests.crash.under_load import PARTITIONS, Load, Programs, kill_under_load
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer, create_topic, read_all

pytestmark = pytest.mark.gate


def tear(broker: BrokerProcess, topic: str) -> None:
    """Leave what a power cut leaves: part of a batch behind the last whole one."""
    last = sorted((broker.data / "topics" / f"{topic}-0").glob("*.log"))[-1]
    content = last.read_bytes()
    with last.open("ab") as file:
        file.write(content[: random.randrange(1, 200)])


def kill_broker_under_load(broker: BrokerProcess, topic: str, programs: Programs, kills: int) -> None:
    def kill_and_restart(number: int, _: Load) -> None:
        broker.kill()
        if number % 2:
            tear(broker, topic)
        broker.start()

    asyncio.run(create_topic(broker.address, topic, partitions=PARTITIONS))
    load = kill_under_load(programs, broker.address, topic, kills, kill_and_restart)
    print(f"{kills} kills, {load.acknowledged} records acknowledged to {', '.join(programs)}: all there")


def test_a_few_kills_under_load_lose_nothing(own_broker: BrokerProcess, topic: str, programs: Programs) -> None:
    kill_broker_under_load(own_broker, topic, programs, kills=4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_under_load_lose_nothing(tmp_path: Path, topic: str, programs: Programs) -> None:
    with running_broker(tmp_path / "data", segment_bytes=100_000) as broker:
        kill_broker_under_load(broker, topic, programs, kills=50)


def kill_while_retention_deletes(data: Path, topic: str, programs: Programs, kills: int) -> None:
    """Keep the youngest part of the log only; its begin may never fall back, and above it the oracle is the same."""
    keeping: dict[str, object] = {"segment_bytes": 20_000, "retention_bytes": 60_000, "retention_check_interval_ms": 20}
    begins = dict.fromkeys(range(PARTITIONS), 0)
    with running_broker(data, **keeping) as broker:

        def kill_and_restart(number: int, _: Load) -> None:
            wait_until(lambda: all(note_begins().values()))
            broker.kill()
            if number % 2:
                tear(broker, topic)
            broker.start()

        def note_begins() -> dict[int, int]:
            now = asyncio.run(begins_of(broker, topic))
            assert all(now[partition] >= begins[partition] for partition in now), f"{now} fell behind {begins}"
            begins.update(now)
            return begins

        def when_all_is_produced() -> dict[int, int]:
            broker.settings["retention_bytes"] = -1  # nothing may go while it is read
            broker.restart()
            return note_begins()

        asyncio.run(create_topic(broker.address, topic, partitions=PARTITIONS))
        load = kill_under_load(programs, broker.address, topic, kills, kill_and_restart, when_all_is_produced)
    assert all(begin > 0 for begin in begins.values())
    print(f"{kills} kills, {load.acknowledged} records acknowledged to {', '.join(programs)}, kept from {begins}")


async def begins_of(broker: BrokerProcess, topic: str) -> dict[int, int]:
    """Where each partition begins."""
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    async with aiokafka_consumer(broker.address) as consumer:
        return {place.partition: begin for place, begin in (await consumer.beginning_offsets(places)).items()}


def test_kills_while_retention_deletes_leave_no_hole(tmp_path: Path, topic: str, programs: Programs) -> None:
    kill_while_retention_deletes(tmp_path / "data", topic, programs, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_kills_while_retention_deletes_leave_no_hole(tmp_path: Path, topic: str, programs: Programs) -> None:
    kill_while_retention_deletes(tmp_path / "data", topic, programs, kills=30)


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
    async with aiokafka_producer(own_broker.address) as producer:
        assert (await producer.send_and_wait(topic, b"x", partition=1)).offset == 5
    assert file.read_bytes() == bytes(content)
    async with aiokafka_consumer(own_broker.address) as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        assert (await asyncio.wait_for(consumer.getone(), 60)).value == b"1"


@pytest.mark.parametrize("is_noticed_at_start", [True, False], ids=["refused partition", "damage met while reading"])
async def test_who_asks_for_what_is_damaged_is_answered_in_time_and_fills_no_log(
    own_broker: BrokerProcess, topic: str, is_noticed_at_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    await create_topic(own_broker.address, topic)
    async with aiokafka_producer(own_broker.address) as producer:
        for number in range(3):
            await producer.send_and_wait(topic, b"%d" % number)
    if is_noticed_at_start:
        own_broker.kill()
    [file] = (own_broker.data / "topics" / f"{topic}-0").glob("*.log")
    with file.open("r+b") as damaged:
        damaged.seek(30)
        damaged.write(b"\xff")
    if is_noticed_at_start:
        own_broker.start()
    size_before = own_broker.log.stat().st_size
    caplog.set_level(logging.WARNING, "aiokafka")  # whatever tests before this one made of it
    async with aiokafka_consumer(own_broker.address, fetch_max_wait_ms=200) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek(TopicPartition(topic, 0), 0)
        started = time.monotonic()
        while (told := sum("while fetching" in record.getMessage() for record in caplog.records)) < 2:
            assert not await consumer.getmany(timeout_ms=2000)
            assert time.monotonic() - started < 60
        seconds = time.monotonic() - started
    # Clients ask again at once: hundreds of times a second, and each answer would be a line in both logs.
    assert told <= 10 * seconds
    assert own_broker.log.stat().st_size - size_before < 1000


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
        offsets = [record.offset for record in await asyncio.wait_for(asyncio.gather(*waiting), 60)]
    assert offsets == [1, 2, 3]
    own_broker.restart()
    [records] = (await read_all(own_broker.address, topic)).values()
    assert [record.value for record in records] == [b"before", b"0" * 100, b"1" * 100, b"2" * 100]
