"""Each bound of the broker, reached by a client that wants more."""

import asyncio
import os
import shutil
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from kio.schema.errors import ErrorCode
from kio.schema.fetch.v12.request import FetchPartition, FetchRequest, FetchTopic
from kio.schema.types import TopicName
from kio.static.primitive import i32, i64

from runtide_deploy.broker import Broker, BrokerSettings
from tests.broker_batches import make_batch
from tests.broker_logs import decode
from tests.broker_process import BrokerProcess, RawClient, running_broker, wait_until
from tests.certificates import Authority
from tests.conformance.test_broker_groups import commit, join_request
from tests.conformance.test_broker_protocol import fetch, outcome, produce
from tests.kafka_clients import aiokafka_admin, aiokafka_consumer, aiokafka_producer, create_topic, read_all

MEBIBYTE = 1 << 20
READERS = 40
BATCHES = 16
FULL = ErrorCode.group_max_size_reached


def resident_bytes(broker: BrokerProcess) -> int:
    assert broker.process is not None
    pages = int(Path(f"/proc/{broker.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_readers_who_do_not_read_take_bounded_memory_and_starve_nobody(tmp_path: Path) -> None:
    with running_broker(
        tmp_path / "data", max_fetch_memory_bytes=32 * MEBIBYTE, stalled_answer_ms=1000, read_buffer_bytes=0
    ) as broker:
        await create_topic(broker.address, "t")
        writer = RawClient(broker.port)
        for _ in range(BATCHES):
            assert outcome(writer.ask(produce("t", make_batch(os.urandom(MEBIBYTE - 100)))))[0] is ErrorCode.none
        before = resident_bytes(broker)
        idle = [RawClient(broker.port) for _ in range(READERS)]
        for reader in idle:
            reader.send(fetch("t", max_bytes=BATCHES * MEBIBYTE))
        async with aiokafka_consumer(broker.address, fetch_max_bytes=4 * MEBIBYTE) as consumer:
            consumer.assign([TopicPartition("t", 0)])
            most = 0
            found: list[int] = []
            async with asyncio.timeout(60):
                while len(found) < BATCHES:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found += [record.offset for record in records]
                    most = max(most, resident_bytes(broker))
        assert found == list(range(BATCHES))
        # All answers together would be 160 MiB.
        assert most - before < 48 * MEBIBYTE
        wait_until(lambda: "it does not read its answers" in broker.log.read_text())
        for reader in idle:
            reader.close()
        assert outcome(writer.ask(produce("t", make_batch(b"v"))))[0] is ErrorCode.none
        writer.close()


async def test_over_tls_too_readers_who_do_not_read_take_bounded_memory(tmp_path: Path) -> None:
    with running_broker(tmp_path / "data") as broker:
        await create_topic(broker.address, "t")
        writer = RawClient(broker.port)
        for _ in range(8):
            assert outcome(writer.ask(produce("t", make_batch(os.urandom(MEBIBYTE - 100)))))[0] is ErrorCode.none
        writer.close()
        broker.stop()
        certificate = Authority(tmp_path).issue("broker").both
        bounds = {"max_fetch_bytes": 8 * MEBIBYTE, "max_fetch_memory_bytes": 16 * MEBIBYTE, "read_buffer_bytes": 0}
        broker.settings = bounds | {"stalled_answer_ms": 3000, "tls_certificate": certificate}
        broker.start()
        trust = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        before = most = resident_bytes(broker)
        idle = [over_tls(broker, trust) for _ in range(READERS // 2)]
        for reader in idle:
            reader.send(fetch("t", max_bytes=8 * MEBIBYTE))
        deadline = time.monotonic() + 60
        while "it does not read its answers" not in broker.log.read_text():
            assert time.monotonic() < deadline
            most = max(most, resident_bytes(broker))
            await asyncio.sleep(0.02)
        # All answers together would be 160 MiB, and as much again encrypted.
        assert most - before < 48 * MEBIBYTE
        for reader in idle:
            reader.close()
        eager = over_tls(broker, trust)
        for _ in range(3):  # behind one another, so that a paced answer is followed by the next
            eager.send(fetch("t", max_bytes=8 * MEBIBYTE))
        answers = [eager.receive(FetchRequest).responses[0].partitions[0].records for _ in range(3)]
        offsets = [[record.offset for record in decode(memoryview(bytes(answer)))] for answer in answers]
        assert offsets == 3 * [list(range(len(offsets[0])))]
        assert len(offsets[0]) >= 7
        eager.close()


def over_tls(broker: BrokerProcess, trust: ssl.SSLContext) -> RawClient:
    client = RawClient(broker.port)
    # Else the kernel itself would take a whole answer for a client that reads nothing.
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    client.socket = trust.wrap_socket(client.socket, server_hostname="127.0.0.1")
    return client


async def test_only_the_first_batch_of_an_answer_may_be_larger_than_asked_for(
    broker: BrokerProcess, topic: str, raw: RawClient
) -> None:
    await create_topic(broker.address, topic, partitions=3)
    raw.ask(produce(topic, *(make_batch(bytes(50_000)) for _ in range(3))))
    asked = FetchTopic(
        topic=TopicName(topic),
        partitions=tuple(
            FetchPartition(partition=i32(number), fetch_offset=i64(0), partition_max_bytes=i32(1000))
            for number in (2, 0, 1)
        ),
    )
    answer = raw.ask(fetch(topic, topics=(asked,)))
    sizes = [len(partition.records) for partition in answer.responses[0].partitions]
    assert sizes[0] > 50_000
    assert sizes[1:] == [0, 0]


def test_groups_and_their_members_are_bounded(tmp_path: Path) -> None:
    with running_broker(tmp_path / "data", max_groups=2, max_group_size=2) as broker:
        asyncio.run(create_topic(broker.address, "t"))
        raw = RawClient(broker.port)
        assert [ask_to_join(raw, "a") for _ in range(3)] == [*[ErrorCode.member_id_required] * 2, FULL]
        assert commit_alone(raw, "b") is ErrorCode.none
        assert ask_to_join(raw, "c") is FULL
        assert commit_alone(raw, "c") is FULL
        assert commit_alone(raw, "b") is ErrorCode.none
        raw.close()


def ask_to_join(raw: RawClient, group: str) -> ErrorCode:
    code: ErrorCode = raw.ask(join_request(group)).error_code
    return code


def commit_alone(raw: RawClient, group: str) -> ErrorCode:
    """Commit as a consumer that manages its partitions itself."""
    return commit(raw, group, "t", member_id="", generation=-1)


async def test_deleting_a_large_topic_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_remove = threading.Event()
    real = shutil.rmtree

    def slow(path: Path) -> None:
        may_remove.wait(120)
        real(path)

    monkeypatch.setattr(shutil, "rmtree", slow)
    settings = BrokerSettings(data=tmp_path / "data", port=0)
    async with Broker.start(settings) as broker:
        for round_number in range(2):
            await create_topic(broker.address, "t", partitions=3)
            async with aiokafka_producer(broker.address) as producer:
                record = await producer.send_and_wait("t", b"%d" % round_number, partition=1)
                assert record.offset == 0
            async with aiokafka_admin(broker.address) as admin:
                await admin.delete_topics(["t"])
        assert len(list((settings.data / "deleted").iterdir())) == 6
        assert list((settings.data / "topics").iterdir()) == []
        may_remove.set()
        await until_empty(settings.data / "deleted")


async def until_empty(folder: Path) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(os.listdir, folder):  # noqa: ASYNC110  # a thread of the broker removes them, nobody signals
            await asyncio.sleep(0.01)


async def test_what_a_crash_leaves_of_a_deletion_is_removed_or_named(tmp_path: Path) -> None:
    settings = BrokerSettings(data=tmp_path / "data", port=0)
    async with Broker.start(settings) as broker:
        await create_topic(broker.address, "kept")
    (settings.data / "deleted" / "t-0.abc").mkdir(parents=True)
    (settings.data / "topics" / "t-0").mkdir()
    (settings.data / "topics" / "t-0" / "00000000000000000000.log").write_bytes(make_batch(b"old"))
    with running_broker(settings.data) as process:
        await until_empty(settings.data / "deleted")
        assert "no topic of topics.json owns: t-0;" in process.log.read_text()
        await create_topic(process.address, "t")
        assert await read_all(process.address, "t") == {0: []}
        await until_empty(settings.data / "deleted")
