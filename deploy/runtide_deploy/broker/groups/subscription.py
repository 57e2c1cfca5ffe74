"""Which topics a group reads, as its members said when they joined."""

from collections.abc import Iterator

from runtide_deploy.broker.groups.group import Group

_CONSUMER_PROTOCOL = "consumer"


def is_of_consumers(group: Group) -> bool:
    """Return whether the members are consumers, whose subscriptions have a known format; true of an empty group."""
    return not group.members or group.protocol_type == _CONSUMER_PROTOCOL


def is_subscribed(group: Group, topic: str) -> bool:
    """Return whether a member reads the topic; true when a subscription cannot be read, as in Apache Kafka."""
    for member in group.members.values():
        for _, metadata in member.protocols:
            try:
                if topic in _topics(metadata):
                    return True
            except (ValueError, IndexError):
                return True
    return False


def _topics(metadata: bytes) -> Iterator[str]:
    """Yield the topics of a ConsumerProtocolSubscription: int16 version, then int32 count and int16-sized strings."""
    count, position = int.from_bytes(metadata[2:6], "big", signed=True), 6
    if len(metadata) < position or count < 0:
        raise ValueError("this is no subscription")
    for _ in range(count):
        start = position + 2
        position = start + int.from_bytes(metadata[position:start], "big")
        if position > len(metadata):
            raise ValueError("a subscription ends too early")
        yield metadata[start:position].decode()
