"""A log to archive, and what tests ask of its archive."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.archive.folder import LocalFolder
from runtide_consumers.archive.manifest import Archive
from runtide_consumers.archive.record_file import read_records
from runtide_consumers.archive.verifying import checked_content
from runtide_consumers.archive.writing import archive_log
from runtide_consumers.decoding import Record
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.projection import TopicPartition
from runtide_schemas import topics

AT = 1_700_000_000_000
STRANGE: tuple[dict[str, Any], ...] = (
    {"value": b""},
    {"value": None, "key": b"\x00\xff"},
    {"value": bytes(range(256)), "headers": [("ce_type", b"Nothing"), ("ce_type", b"again"), ("é", b"")]},
    {"value": b"x" * 5_000, "key": b"", "headers": [("none", None)]},
)
"""Records of every shape: what is archived are bytes, whatever they mean."""

Kept = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


async def produce(kafka: KafkaSettings, topic: str, count: int, *, first: int = 0, partition: int = 0) -> None:
    """Append records, each a second later than the one before."""
    producer = new_producer(kafka)
    await producer.start()
    try:
        sending = []
        for number in range(first, first + count):
            record = {"value": b"%d" % number} if number % 5 else STRANGE[number // 5 % len(STRANGE)]
            sending.append(await producer.send(topic, partition=partition, timestamp_ms=AT + 1_000 * number, **record))
        await asyncio.gather(*sending)
    finally:
        await producer.stop()


async def read_all(kafka: KafkaSettings, topic: str, start: int = 0) -> dict[TopicPartition, list[Kept]]:
    """Return all that a reader finds in a topic's partitions, from an offset of each on."""
    wanted, found = asyncio.Event(), dict[TopicPartition, list[Kept]]()
    wanted.set()
    numbers = range(8)
    reader = await LogReader.open(kafka, {topic}, {TopicPartition(topic, number): start for number in numbers})
    try:
        async with asyncio.timeout(60):
            while not reader.read_to_end:
                for record in await reader.fetch(BatchLimits(max_bytes=4_000, idle_s=0.1), wanted):
                    found.setdefault(TopicPartition(record.topic, record.partition), []).append(kept(record))
    finally:
        await reader.close()
    return found


def kept(record: Record) -> Kept:
    """Return what has to be the same of a record, wherever it is read."""
    return (record.offset, record.timestamp, record.key, record.value, tuple(record.headers))


def archived(location: Path | str, topic: str) -> dict[TopicPartition, list[Kept]]:
    """Return all records of a topic that an archive holds."""
    archive, found = Archive.load(str(location)), dict[TopicPartition, list[Kept]]()
    for place in archive.places:
        if place.topic == topic:
            for file in archive.files(place):
                for records in read_records(checked_content(archive, file), archive.log_id, place):
                    found.setdefault(place, []).extend(map(kept, records))
    return found


async def delete_records(kafka: KafkaSettings, ends: Mapping[TopicPartition, int]) -> None:
    """Have the log begin at these offsets, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {KafkaPartition(*place): RecordsToDelete(before_offset=end) for place, end in ends.items()}
        )
    finally:
        await admin.close()


async def archive_runs(kafka: KafkaSettings, location: Path | str, **options: Any) -> Any:
    """Archive ``runtide.runs``, a few records to a file."""
    return await archive_log(kafka, str(location), {topics.RUNS}, **({"file_bytes": 250} | options))


class Broken(Exception):
    """The process was killed here."""


class BreakingFolder(LocalFolder):
    """Breaks after some writes, before or after the one that is to be the last."""

    def __init__(self, path: Path, writes: int, done: bool) -> None:
        super().__init__(path)
        self.left, self._done = writes, done

    def put(self, name: str, content: bytes) -> None:
        """Store, or break."""
        self._maybe(lambda: LocalFolder.put(self, name, content))

    def put_new(self, name: str, content: bytes) -> None:
        """Store, or break."""
        self._maybe(lambda: LocalFolder.put_new(self, name, content))

    def _maybe(self, write: Any) -> None:
        self.left -= 1
        if self.left > 0 or (self.left == 0 and self._done):
            write()
        if self.left <= 0:
            raise Broken


def changed(paths: Iterable[Path]) -> dict[Path, bytes]:
    """Return the content of files."""
    return {path: path.read_bytes() for path in paths if path.is_file()}
