"""The repair command, and what clients see of a log with a gap."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition as AiokafkaPartition
from confluent_kafka import Consumer, KafkaError, TopicPartition

from runtide.kafka import KafkaSettings
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.projection import TopicPartition as OurPartition
from tests.broker_process import BrokerProcess
from tests.java_programs import JavaPrograms, run_java
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer, create_topic, read_all


def repair(data: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runtide_deploy.broker.repair", f"--data={data}", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_a_damaged_partition_is_served_again_without_what_is_lost(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic, partitions=2)
    async with aiokafka_producer(own_broker.address, retry_backoff_ms=20) as producer:
        for number in range(20):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 2)
        in_use = repair(own_broker.data)
        assert (in_use.returncode, in_use.stdout) == (2, "")
        assert "is used by another broker" in in_use.stderr
        await asyncio.to_thread(own_broker.kill)
        assert (repair(own_broker.data).returncode, repair(own_broker.data, "--topic=x").returncode) == (0, 2)
        [file] = (own_broker.data / "topics" / f"{topic}-0").glob("*.log")
        content = bytearray(file.read_bytes())
        size = len(content) // 10
        content[3 * size + 65] ^= 1
        file.write_bytes(content)
        said = repair(own_broker.data)
        assert said.returncode == 1
        assert f"{topic}-0: DAMAGED, offsets 0 to 9\n" in said.stdout
        assert f"{file.name}, bytes {3 * size} to {4 * size - 1}: checksum does not match\n" in said.stdout
        assert "lost for good: offsets 3 to 3 (1 records)\n" in said.stdout
        assert f"{topic}-1: sound, offsets 0 to 9\n" in said.stdout
        assert file.read_bytes() == content
        done = repair(own_broker.data, f"--topic={topic}", "--partition=0", "--apply")
        assert done.returncode == 0
        [kept] = (file.parent / "damaged").rglob("*.log")
        assert kept.read_bytes() == content
        assert str(kept.parent) in done.stdout
        await asyncio.to_thread(own_broker.start)
        assert (await producer.send_and_wait(topic, b"20", partition=0)).offset == 10
    expected = [0, 1, 2, *range(4, 11)]
    found = await read_all(own_broker.address, topic, partitions=2)
    assert [(record.offset, record.value) for record in found[0]] == [(n, b"%d" % (2 * n)) for n in expected]
    assert len(found[1]) == 10
    assert await asyncio.to_thread(read_with_librdkafka, own_broker.address, topic, 3) == expected[3:]


@pytest.fixture
async def gap(tmp_path: Path, topic: str) -> AsyncIterator[BrokerProcess]:
    """A broker whose topic had ten records, of which the last five were lost and given up."""
    broker = BrokerProcess(tmp_path / "data")
    broker.start()
    try:
        await create_topic(broker.address, topic)
        async with aiokafka_producer(broker.address) as producer:
            for number in range(10):
                await producer.send_and_wait(topic, b"%d" % number)
        assert await asyncio.to_thread(broker.stop) == 0
        [file] = (broker.data / "topics" / f"{topic}-0").glob("*.log")
        with file.open("r+b") as segment:
            segment.truncate(file.stat().st_size // 2)
        done = repair(broker.data, "--apply")
        assert "lost for good: offsets 5 to 9 (5 records)\n" in done.stdout
        await asyncio.to_thread(broker.start)
        yield broker
    finally:
        await asyncio.to_thread(broker.kill)


FROM = [3, 5, 7]
"""Before the gap, where it begins, and within it."""


async def test_librdkafka_gets_to_the_end_behind_a_gap(gap: BrokerProcess, topic: str) -> None:
    for start in FROM:
        found, end = await asyncio.to_thread(librdkafka_until_end, gap.address, topic, start)
        assert (found, end) == (list(range(start, 5)), 10)


async def test_aiokafka_gets_to_the_end_behind_a_gap(gap: BrokerProcess, topic: str) -> None:
    for start in FROM:
        place = AiokafkaPartition(topic, 0)
        async with aiokafka_consumer(gap.address) as consumer, asyncio.timeout(60):
            consumer.assign([place])
            consumer.seek(place, start)
            found: list[int] = []
            while await consumer.position(place) < 10:
                found += [record.offset for record in (await consumer.getmany(place, timeout_ms=100)).get(place, [])]
        assert found == list(range(start, 5))


async def test_our_reader_gets_to_the_end_behind_a_gap(gap: BrokerProcess, topic: str) -> None:
    for start in FROM:
        place, wanted = OurPartition(topic, 0), asyncio.Event()
        wanted.set()
        reader = await LogReader.open(KafkaSettings(bootstrap=gap.address), {topic}, {place: start})
        applied = reader.positions_at_start()
        found = []
        try:
            async with asyncio.timeout(60):
                while not reader.read_to_end:
                    records = await reader.fetch(BatchLimits(idle_s=0.1), wanted)
                    assert not (records and reader.reached(applied)), "records that are not applied count as applied"
                    for record in records:
                        found.append(record.offset)
                        applied[place] = record.offset + 1
        finally:
            await reader.close()
        assert found == list(range(start, 5))
        assert reader.reached(applied)
        assert reader.lag(applied) == {place: 0}


@pytest.mark.gate
async def test_java_gets_to_the_end_behind_a_gap(gap: BrokerProcess, java_programs: JavaPrograms, topic: str) -> None:
    for start in FROM:
        command = [*java_programs("JavaClient"), "to-the-end", gap.address, topic, str(start)]
        output, errors, status = await asyncio.to_thread(run_java, command, 400.0)
        assert (status, output) == (0, "passed to-the-end\n"), errors[-6000:]


def librdkafka_until_end(address: str, topic: str, offset: int) -> tuple[list[int], int]:
    """Read partition 0 from an offset on; return the offsets, and where librdkafka says that the partition ends."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, 0, offset)])
        found: list[int] = []
        while (message := consumer.poll(60)) is not None:
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return found, int(message.offset() or 0)
            found.append(int(message.offset() or 0))
        return found, -1
    finally:
        consumer.close()


def read_with_librdkafka(address: str, topic: str, offset: int) -> list[int]:
    """Read partition 0 from an offset to the end."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, 0, offset)])
        found = []
        while (message := consumer.poll(60)) is not None and message.error() is None:
            found.append(int(message.offset() or 0))
        return found
    finally:
        consumer.close()


def test_what_is_no_data_directory_is_left_alone(tmp_path: Path) -> None:
    said = repair(tmp_path / "nothing")
    assert (said.returncode, said.stdout) == (2, "")
    assert "is no broker's data directory" in said.stderr
    assert not (tmp_path / "nothing").exists()
