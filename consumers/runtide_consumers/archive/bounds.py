"""How far a log goes: where its partitions begin, and where what is older than a moment ends."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError

from runtide.kafka import KafkaSettings, describe, explained, new_consumer, stop_consumer
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a partition holds.

    Attributes:
        begin: the first offset that it may hold.
        end: the one after the last that was asked for.
    """

    begin: int
    end: int


async def log_bounds(
    settings: KafkaSettings, topics: Iterable[str], until_ms: int | None = None
) -> dict[TopicPartition, Bounds]:
    """Return the bounds of all partitions of some topics.

    Args:
        settings: where the log is.
        topics: which topics.
        until_ms: Unix time in milliseconds; a partition ends before its first record that is not older. None: at its high
            watermark.

    Raises:
        InvalidRequest: a topic does not exist.
        TransientError: the broker is away.
        NoAccess: it will not let us in.
    """
    consumer = new_consumer(settings)
    try:
        await consumer.start()
        cluster = await consumer._client.fetch_all_metadata()
        places = [
            KafkaPartition(topic, number)
            for topic in sorted(topics)
            for number in sorted(cluster.partitions_for_topic(topic) or _missing(topic, settings))
        ]
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        if until_ms is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(places, until_ms))
            ends |= {place: min(ends[place], at.offset) for place, at in found.items() if at is not None}
    except (KafkaError, OSError, TimeoutError) as error:
        raise await explained(settings, f"cannot read the log at {settings.bootstrap}: {describe(error)}") from error
    finally:
        await stop_consumer(consumer)
    return {TopicPartition(*place): Bounds(begins[place], max(begins[place], ends[place])) for place in places}


def _missing(topic: str, settings: KafkaSettings) -> set[int]:
    raise InvalidRequest(f"there is no topic {topic} at {settings.bootstrap}")
