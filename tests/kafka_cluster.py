"""What a cluster says about its partitions, asked through librdkafka."""

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_SECONDS = 60.0


def node_count(address: str) -> int:
    """Return how many brokers a cluster has."""
    return len(AdminClient({"bootstrap.servers": address, "log_level": 2}).list_topics(timeout=_SECONDS).brokers)


def topics_of(address: str) -> dict[str, Any]:
    """Return the metadata of every topic by name."""
    topics: dict[str, Any] = (
        AdminClient({"bootstrap.servers": address, "log_level": 2}).list_topics(timeout=_SECONDS).topics
    )
    return topics


def leader_of(address: str, topic: str, partition: int) -> int:
    """Return the id of the node that leads a partition; -1 when there is none."""
    return int(topics_of(address)[topic].partitions[partition].leader)


def in_sync(address: str, prefix: str = "") -> bool:
    """Return whether every partition of the topics with that prefix has a leader and all its replicas in sync."""
    try:
        topics = topics_of(address)
    except KafkaException:
        return False
    partitions = [
        partition
        for name, topic in topics.items()
        if name.startswith(prefix)
        for partition in topic.partitions.values()
    ]
    return bool(partitions) and all(
        partition.leader >= 0 and len(partition.isrs) == len(partition.replicas) for partition in partitions
    )
