"""A log in memory, for tests of folds: events with envelopes and offsets, cut into batches in any way."""

import zlib
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

from runtide_consumers.projection import Batch, Event, Origin, TopicPartition
from runtide_schemas import topics
from runtide_schemas.envelope import Envelope
from runtide_schemas.routing import key_of, subject_of, topic_of
from runtide_schemas.topics import TOPICS

SPREAD = 2
AT = 1_700_000_000_000
_RUN_TOPICS = (topics.RUNS, topics.METRICS)


class EventLog:
    """Partitions of events, numbered as their writers and the log would number them."""

    def __init__(self) -> None:
        self.partitions: dict[TopicPartition, list[Event]] = defaultdict(list)
        self._next_seq: dict[tuple[str, str, str], int] = defaultdict(int)
        self._ids = 0

    def add(self, body: Any, writer: str = "w0", *, seq: int | None = None, cause: str = "") -> Event:
        """Append an event; its number is the writer's next unless given."""
        topic = topic_of(body)
        sequence = (getattr(body, "run_id", "") if topic in _RUN_TOPICS else "", writer, topic)
        number = self._next_seq[sequence] if seq is None else seq
        self._next_seq[sequence] = max(self._next_seq[sequence], number + 1)
        self._ids += 1
        envelope = Envelope(
            id=f"id-{self._ids}",
            type=type(body).__name__,
            subject=subject_of(body),
            writer=writer,
            seq=number,
            time=AT + self._ids,
            source="/test",
            actor="someone",
            cause=cause,
        )
        return self.append(envelope, body)

    def append(self, envelope: Envelope, body: Any) -> Event:
        """Append an event with that envelope, perhaps one that is there already."""
        partition = TopicPartition(topic_of(body), self._partition(body, envelope.writer))
        events = self.partitions[partition]
        event = Event(Origin(*partition, offset=len(events), timestamp_ms=envelope.time), envelope, body)
        events.append(event)
        return event

    def batches(self, random: Random, most: int = 20) -> Iterator[Batch]:
        """Yield everything in batches of random size, partitions interleaved at random, each in its own order."""
        positions = dict.fromkeys(self.partitions, 0)
        while left := [part for part, offset in positions.items() if offset < len(self.partitions[part])]:
            begins = dict(positions)
            events: list[Event] = []
            for _ in range(random.randint(1, most)):
                partition = random.choice(left)
                if positions[partition] < len(self.partitions[partition]):
                    events.append(self.partitions[partition][positions[partition]])
                    positions[partition] += 1
            touched = {part: offset for part, offset in positions.items() if offset > begins[part]}
            yield Batch(tuple(events), (), touched, {part: begins[part] for part in touched})

    def everything(self) -> Batch:
        """Return all of it as one batch."""
        events = tuple(event for events in self.partitions.values() for event in events)
        ends = {partition: len(events) for partition, events in self.partitions.items()}
        return Batch(events, (), ends, dict.fromkeys(ends, 0))

    @staticmethod
    def _partition(body: Any, writer: str) -> int:
        key = key_of(body, writer) or b""
        return zlib.crc32(key) % TOPICS[topic_of(body)].partitions(SPREAD)
