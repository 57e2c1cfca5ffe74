"""Each bound of the broker, reached by a client that wants more."""

import asyncio
import os
from pathlib import Path

from aiokafka import TopicPartition
from kio.schema.errors import ErrorCode
from kio.schema.fetch.v12.request import FetchPartition, FetchTopic
from kio.schema.types import TopicName
from kio.static.primitive import i32, i64

from tests.broker_batches import make_batch
from tests.broker_process import BrokerProcess, RawClient, running_broker, wait_until
from tests.conformance.test_broker_protocol import fetch, outcome, produce
from tests.kafka_clients import aiokafka_consumer, create_topic

MEBIBYTE = 1 << 20
READERS = 40
BATCHES = 16


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
        # All answers together would be 640 MiB; what the allocator and the sockets add is below the bound again.
        assert most - before < 2 * 32 * MEBIBYTE
        wait_until(lambda: "it does not read its answers" in broker.log.read_text())
        for reader in idle:
            reader.close()
        assert outcome(writer.ask(produce("t", make_batch(b"v"))))[0] is ErrorCode.none
        writer.close()


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
