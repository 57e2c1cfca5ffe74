"""The repair command, and what clients see of a log with a gap."""

import asyncio
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from tests.broker_process import BrokerProcess
from tests.kafka_clients import aiokafka_producer, create_topic, read_all


def repair(data: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runtide_deploy.broker.repair", f"--data={data}", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=30,
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


def read_with_librdkafka(address: str, topic: str, offset: int) -> list[int]:
    """Read partition 0 from an offset to the end."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, 0, offset)])
        found = []
        while (message := consumer.poll(10)) is not None and message.error() is None:
            found.append(int(message.offset() or 0))
        return found
    finally:
        consumer.close()


def test_what_is_no_data_directory_is_left_alone(tmp_path: Path) -> None:
    said = repair(tmp_path / "nothing")
    assert (said.returncode, said.stdout) == (2, "")
    assert "is no broker's data directory" in said.stderr
    assert not (tmp_path / "nothing").exists()
