"""Judges a log after a crash: every acknowledged record is there, once, where it was said to be, in order per producer."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from tests.crash.load_client import Acknowledged, LoadClient
from tests.kafka_clients import read_all

_LOOK_AGAIN_SECONDS = 60.0


class Place(NamedTuple):
    """Where a record stands in its topic."""

    partition: int
    offset: int


async def assert_nothing_lost(
    address: str, topic: str, partitions: int, clients: Sequence[LoadClient], begins: Mapping[int, int]
) -> None:
    """Read the topic and judge it; a failure says who is to blame, the broker, the client or the reader.

    Partitions may begin at the offsets of ``begins``; from there on nothing may be missing.
    """
    found = await read_all(address, topic, partitions)
    stored = {
        Place(number, record.offset): record.value.rstrip(b".").decode()
        for number, records in found.items()
        for record in records
    }
    assert any(client.acknowledged for client in clients)
    faults = [fault for client in clients for fault in missing(client, stored, begins, address, topic)]
    faults += holes(stored, partitions, begins)
    faults += [f"{value} is there {count} times" for value, count in Counter(stored.values()).items() if count > 1]
    faults += disorders(stored)
    assert not faults, f"{len(faults)} faults in {len(stored)} records, the first: {'; '.join(faults[:5])}"


def missing(
    client: LoadClient, stored: Mapping[Place, str], begins: Mapping[int, int], address: str, topic: str
) -> list[str]:
    """Return a line for every acknowledged record that was not read where the acknowledgement says."""
    values = set(stored.values())
    faults = []
    for record in _expected(client, stored, begins):
        value = f"{client.name}:{record.number}"
        there = value in values if record.offset < 0 else stored.get(Place(record.partition, record.offset)) == value
        if not there:
            faults.append(
                f"{value} at {record.partition}@{record.offset}: {_blame(record, value, values, address, topic)}"
            )
    return faults


def _expected(client: LoadClient, stored: Mapping[Place, str], begins: Mapping[int, int]) -> Iterator[Acknowledged]:
    """Yield what must be there: all that does not lie before the begin of its partition."""
    oldest: dict[int, int] = {}
    for place, value in sorted(stored.items()):
        name, number = value.split(":")
        if name == client.name:
            oldest.setdefault(place.partition, int(number))
    for record in client.acknowledged:
        begin = begins.get(record.partition, 0)
        # Whose place is unknown lies before the begin if an older one of its producer does not lie behind it.
        is_older = record.offset < 0 and record.number < oldest.get(record.partition, 0)
        if not begin or not (is_older or 0 <= record.offset < begin):
            yield record


def holes(stored: Mapping[Place, str], partitions: int, begins: Mapping[int, int]) -> list[str]:
    """Return a line for every partition that does not begin where it should, or lacks an offset."""
    faults = []
    for number in range(partitions):
        offsets = sorted(place.offset for place in stored if place.partition == number)
        begin = begins.get(number, 0)
        if offsets != list(range(begin, begin + len(offsets))):
            faults.append(f"partition {number} begins at {begin} and has {len(offsets)} records from {offsets[:1]} on")
    return faults


def _blame(record: Acknowledged, value: str, values: set[str], address: str, topic: str) -> str:
    if value in values:
        return "the client told another place than where the record is"
    if record.offset >= 0 and value_at(address, topic, record.partition, record.offset) == value:
        return "the broker has it, and the reader skipped it"
    return "the broker acknowledged it and has lost it"


def value_at(address: str, topic: str, partition: int, offset: int) -> str | None:
    """Return the value of one record as a second, foreign reader finds it; None when there is none at that offset."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "oracle", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(_LOOK_AGAIN_SECONDS)
    finally:
        consumer.close()
    if message is None or message.error() is not None or message.offset() != offset:
        return None
    value: bytes = message.value() or b""
    return value.rstrip(b".").decode()


def disorders(stored: Mapping[Place, str]) -> list[str]:
    """Return a line for every record that stands behind a later one of its producer in the same partition."""
    last: dict[tuple[int, str], int] = {}
    faults = []
    for place, value in sorted(stored.items()):
        name, number = value.split(":")
        before = last.get((place.partition, name), -1)
        if int(number) < before:
            faults.append(f"{value} at {place.partition}@{place.offset} stands behind {name}:{before}")
        last[place.partition, name] = int(number)
    return faults
