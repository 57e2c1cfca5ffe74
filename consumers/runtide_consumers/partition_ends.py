"""Which partitions topics have, and where the log holds each from and to: what a reader asks before it reads."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from runtide_consumers.archive.reading import Span
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import LogTruncated, TransientError


async def partitions_of(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> list[TopicPartition]:
    """Return all partitions of topics, in order.

    Raises:
        TransientError: a topic does not exist yet.
        KafkaError, OSError: the broker is away.
    """
    # The public partitions_for_topic() knows assigned topics only, and assigning a first partition to learn of the
    # others would start to fetch it from a position that nobody has chosen.
    cluster = await consumer._client.fetch_all_metadata()
    partitions = []
    for topic in sorted(topics):
        numbers = cluster.partitions_for_topic(topic)
        if not numbers:
            raise TransientError(f"topic {topic} does not exist yet")
        partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
    return partitions


async def begins_now(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the first offset that the log holds of each. Raises KafkaError and OSError."""
    return _by_place(await consumer.beginning_offsets(asked)) if (asked := _named(partitions)) else {}


async def ends_now(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the offset that the next record of each will have. Raises KafkaError and OSError."""
    return _by_place(await consumer.end_offsets(asked)) if (asked := _named(partitions)) else {}


async def checked_ends(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, Span]]:
    """Return where partitions end, and of those that begin behind their start, that and where they begin.

    Raises:
        LogTruncated: a start lies behind an end.
        KafkaError, OSError: the broker is away.
    """
    begins, ends = await begins_now(consumer, starts), await ends_now(consumer, starts)
    missing: dict[TopicPartition, Span] = {}
    for partition, start in starts.items():
        begin, end = begins[partition], ends[partition]
        if start < begin:
            missing[partition] = (start, begin)
        if start > end:
            raise LogTruncated(
                f"{partition.topic}/{partition.partition} has been read up to offset {start}, but the log ends at "
                f"{end}: it is another log, or has lost its end. Point this projection at its own log, or rebuild it"
            )
    return ends, missing


def _named(partitions: Iterable[TopicPartition]) -> list[KafkaPartition]:
    return [KafkaPartition(*place) for place in partitions]


def _by_place(found: Mapping[Any, int]) -> dict[TopicPartition, int]:
    return {TopicPartition(*place): offset for place, offset in found.items()}
