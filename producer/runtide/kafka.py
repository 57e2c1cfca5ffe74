"""How every process of ours talks to Kafka: settings, clients with safe defaults, topics.

aiokafka's own defaults lose data (acks=1, auto commit, offset reset to latest); everything that matters is set here,
and nowhere else.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner, murmur2

from runtide.kafka_access import why_no_access
from runtide.kafka_settings import KafkaSettings, NoAccess, client_options
from runtide_schemas.errors import FatalError, TransientError
from runtide_schemas.topics import DEFAULT_PARTITIONS, TOPICS

MAX_BATCH_BYTES = 512 * 1024
MAX_REQUEST_BYTES = 8 * 1024 * 1024
MAX_EVENT_BYTES = 1_000_000
"""Largest event body that is published: brokers refuse batches of more than 1 MiB by default (message.max.bytes)."""
_TOPIC_ALREADY_EXISTS = 36
_INVALID_REPLICATION_FACTOR = 38
_TOPICS_DEADLINE_S = 30.0
_STOP_TIMEOUT_S = 5.0
_STOPPING: set["asyncio.Future[None]"] = set()
"""Consumers that are being stopped, also when nobody waits for that any more."""
logger = logging.getLogger(__name__)
KEEP_EVERYTHING = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
"""The log is the truth: Kafka's default of seven days would take it away from every projection and from the registrar."""
_quiet_level = logging.NOTSET

__all__ = [
    "KEEP_EVERYTHING",
    "KafkaSettings",
    "MAX_EVENT_BYTES",
    "NoAccess",
    "cluster_id",
    "describe",
    "discard",
    "ensure_topics",
    "explained",
    "new_consumer",
    "new_producer",
    "quiet_loggers",
    "stop_consumer",
]


def new_producer(settings: KafkaSettings, **overrides: Any) -> AIOKafkaProducer:
    """Return a producer, not started: idempotent, acks=all, batches large enough for 70 MB/s and more.

    It must be made and used in one event loop. After any delivery error throw it away (``discard``): its sequence
    numbers may have a hole that the broker refuses for ever.
    """
    options = client_options(settings) | {
        "enable_idempotence": True,
        "acks": "all",
        "max_batch_size": MAX_BATCH_BYTES,
        "max_request_size": MAX_REQUEST_BYTES,
        "linger_ms": 5,
        "partitioner": partition_for,
    }
    return AIOKafkaProducer(**(options | overrides))


def partition_for(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """Return the partition of a key as every Kafka client does: aiokafka's own way works the hash out anew for each record."""
    if key is None:
        return int(DefaultPartitioner()(None, partitions, available))
    return partitions[_positive_hash(key) % len(partitions)]


@lru_cache(maxsize=20_000)
def _positive_hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFF_FFFF


def new_consumer(settings: KafkaSettings, **overrides: Any) -> AIOKafkaConsumer:
    """Return a consumer, not started: no group, no commits, no deserializers, no silent jump to another offset.

    Assign partitions and seek explicitly, and read with ``getmany``: iteration skips what it cannot read.
    """
    options = client_options(settings) | {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_uncommitted",
        "max_partition_fetch_bytes": 2 * MAX_REQUEST_BYTES,
    }
    return AIOKafkaConsumer(**(options | overrides))


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer within about 10 seconds, however that ends.

    aiokafka 0.14 lets the cancellation of its own tasks out of ``stop()``, which would pass for one of the caller's, and may
    wait for ever for a coordinator or connection that is gone. Whoever waits may be cancelled: the consumer is stopped all the same.
    """
    stopping = asyncio.ensure_future(_stop(consumer))
    _STOPPING.add(stopping)
    stopping.add_done_callback(_STOPPING.discard)
    await asyncio.shield(stopping)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    for step in (consumer.stop, consumer._client.close):
        stopping = asyncio.ensure_future(step())
        await asyncio.wait({stopping}, timeout=_STOP_TIMEOUT_S)
        if not stopping.cancel() and not stopping.cancelled() and (error := stopping.exception()) is not None:
            logger.debug("a consumer was not stopped cleanly: %s", describe(error))


async def discard(producer: AIOKafkaProducer, deadline: float = 2.0) -> None:
    """Throw a producer away within about ``deadline`` seconds, whatever state it or the broker is in.

    Whatever it still held is failed with TransientError: sent or not sent, nobody knows. ``stop()`` alone would wait
    for ever while the broker is down, since idempotent batches never expire (aiokafka 0.14, ``Sender._can_retry``);
    therefore this reaches for two attributes that aiokafka does not make public.
    """
    producer._message_accumulator.fail_all(TransientError("the producer was thrown away; outcome unknown"))
    with contextlib.suppress(KafkaError, OSError, TransientError, TimeoutError):
        await asyncio.wait_for(producer.stop(), deadline / 2)
    if (sender := producer._sender.sender_task) is not None:
        sender.cancel()
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(producer.client.close(), deadline / 2)


async def ensure_topics(settings: KafkaSettings, spread: int = DEFAULT_PARTITIONS) -> None:
    """Create the topics that are missing, the spread ones with ``spread`` partitions, and check the ordered ones.

    Raises:
        TransientError: the broker is away, or the topics have no leaders in time.
        NoAccess: the broker will not let us in.
        FatalError: the broker refuses, or an ordered topic has more than one partition.
    """
    quiet_loggers()
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        await _create_missing(admin, settings, spread)
        async with asyncio.timeout(_TOPICS_DEADLINE_S):
            while not _ready(found := await _partition_counts(admin)):  # noqa: ASYNC110 - Kafka has no event for it
                await asyncio.sleep(0.1)
        _check_ordered(found)
    except (KafkaError, OSError, TimeoutError) as error:
        raise await explained(settings, f"cannot set up topics at {settings.bootstrap}: {describe(error)}") from error
    finally:
        await admin.close()


async def cluster_id(settings: KafkaSettings) -> str:
    """Return the id that the log's cluster was given when it was made: which log this is, whatever its addresses.

    Raises:
        TransientError: the broker is away.
        NoAccess: the broker will not let us in.
        FatalError: it is no Kafka that tells its id (KIP-78).
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        found = (await admin.describe_cluster()).get("cluster_id")
    except (KafkaError, OSError, TimeoutError) as error:
        raise await explained(settings, f"cannot ask {settings.bootstrap} for its id: {describe(error)}") from error
    finally:
        await admin.close()
    if not found:
        raise FatalError(f"{settings.bootstrap} does not tell its cluster id, so its log cannot be told from another")
    return str(found)


def quiet_loggers(level: int = logging.WARNING) -> None:
    """Cap aiokafka's loggers: its DEBUG messages print passwords, keys and values.

    A level that the user chose stays, unless it is below INFO; one that this function set may be raised.
    """
    global _quiet_level
    theirs = logging.getLogger("aiokafka")
    if theirs.level in (logging.NOTSET, _quiet_level):
        _quiet_level = max(level, _quiet_level)
        theirs.setLevel(_quiet_level)
    elif theirs.level < logging.INFO:
        theirs.setLevel(logging.INFO)


async def explained(settings: KafkaSettings, failure: str) -> FatalError | TransientError:
    """Return what to raise after a failure to reach the log: why we are not let in, else that waiting may help."""
    refused = await why_no_access(settings)
    return TransientError(failure) if refused is None else NoAccess(f"{failure}: {refused}")


def describe(error: BaseException) -> str:
    """Return an error's type and text; aiokafka's and asyncio's often have no text of their own."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _create_missing(admin: AIOKafkaAdminClient, settings: KafkaSettings, spread: int) -> None:
    existing = await _partition_counts(admin)
    missing = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions(spread),
            replication_factor=settings.replication_factor,
            topic_configs=KEEP_EVERYTHING | _in_sync(settings.replication_factor),
        )
        for topic in TOPICS.values()
        if topic.name not in existing
    ]
    if not missing:
        return
    response = await admin.create_topics(missing)
    for name, code, *message in response.topic_errors:
        if code == _INVALID_REPLICATION_FACTOR and settings.replication_factor > 1:
            raise TransientError(
                f"there are not {settings.replication_factor} brokers at {settings.bootstrap} yet, and topics are to have "
                "that many replicas (RUNTIDE_KAFKA_REPLICATION_FACTOR)"
            )
        if code not in (0, _TOPIC_ALREADY_EXISTS):
            raise FatalError(
                f"the broker refused to create topic {name}: Kafka error {code} {' '.join(map(str, message))}"
            )


def _in_sync(replicas: int) -> dict[str, str]:
    """Return how many replicas must hold a record before acks=all answers: one may be missing of three or more."""
    return {"min.insync.replicas": str(replicas - 1)} if replicas >= 3 else {}


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    topics = await admin.describe_topics()
    return {
        topic["topic"]: sum(partition["leader"] >= 0 for partition in topic["partitions"])
        for topic in topics
        if topic["error_code"] == 0
    }


def _ready(found: dict[str, int]) -> bool:
    return all(found.get(name, 0) > 0 for name in TOPICS)


def _check_ordered(found: dict[str, int]) -> None:
    for topic in TOPICS.values():
        if topic.ordered and found[topic.name] != 1:
            raise FatalError(
                f"topic {topic.name} has {found[topic.name]} partitions; it must have exactly 1, because its order "
                "decides. Create it anew with one partition"
            )
