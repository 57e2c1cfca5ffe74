"""Archiving on either broker: a foreign topic, transactions and what they leave in the log, deleted and read again."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Producer

from runtide.kafka import KafkaSettings
from runtide_consumers.archive.verifying import verify_archive
from runtide_consumers.archive.writing import archive_log
from runtide_consumers.projection import TopicPartition
from tests.archived_log import archived, delete_records, produce, read_all
from tests.kafka_clients import KafkaAddress, create_topic


async def test_archive_and_log_are_one_on_either_broker(kafka: KafkaAddress, topic: str, tmp_path: Path) -> None:
    settings, to = KafkaSettings(bootstrap=kafka.address), str(tmp_path / "archive")
    await create_topic(kafka.address, topic, 2)
    await produce(settings, topic, 60)
    await produce(settings, topic, 10, partition=1)
    everything = await read_all(settings, topic)
    await archive_log(settings, to, {topic}, file_bytes=250)
    assert archived(to, topic) == everything
    await delete_records(settings, {TopicPartition(topic, 0): 41, TopicPartition(topic, 1): 10})
    assert await read_all(settings.model_copy(update={"archive": to}), topic) == everything


@pytest.mark.apache
async def test_what_transactions_leave_is_stated_as_gaps(apache: KafkaAddress, topic: str, tmp_path: Path) -> None:
    settings, to = KafkaSettings(bootstrap=apache.address), str(tmp_path / "archive")
    place = TopicPartition(topic, 0)
    await create_topic(apache.address, topic)
    await asyncio.to_thread(transactions, apache.address, topic, 3)
    everything = await read_all(settings, topic)
    await archive_log(settings, to, {topic})
    verdict = await verify_archive(to)
    span = verdict.spans[place]
    assert (verdict.problems, span.first_offset, span.last_offset, span.records, span.gaps) == ((), 0, 8, 6, 3)
    await delete_records(settings, {place: 9})
    assert await read_all(settings.model_copy(update={"archive": to}), topic) == everything


def transactions(address: str, topic: str, count: int) -> None:
    """Commit transactions of two records each: the log then has a marker behind each."""
    producer = Producer({"bootstrap.servers": address, "transactional.id": f"{topic}-transactions"})
    producer.init_transactions(60)
    for number in range(count):
        producer.begin_transaction()
        for value in range(2):
            producer.produce(topic, b"%d" % (2 * number + value), partition=0)
        producer.commit_transaction(60)
