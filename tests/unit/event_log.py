"""A log in memory for tests of folds: events with envelopes and origins, cut into batches in any lawful way."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any
from zlib import crc32

import numpy as np

from runtide_consumers.projection import Batch, Event, Origin, TopicPartition
from runtide_schemas import topics
from runtide_schemas.envelope import make_envelope
from runtide_schemas.events.catalog import Answer
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.routing import key_of, subject_of, topic_of

AT = 1_700_000_000_000
SPREAD = 4


class EventLog:
    """Partitions as lists of events; sequence numbers are counted per writer unless given."""

    def __init__(self) -> None:
        self.partitions: defaultdict[TopicPartition, list[Event]] = defaultdict(list)
        self._next_seq: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def append(self, body: Any, writer: str = "w0", *, seq: int | None = None, skip: int = 0, cause: str = "") -> Event:
        """Append an event as a producer would; ``skip`` leaves out so many numbers before it."""
        topic = topic_of(body)
        stream = (topic, getattr(body, "run_id", "") if topic in (topics.RUNS, topics.METRICS) else "", writer)
        number = self._next_seq[stream] + skip if seq is None else seq
        self._next_seq[stream] = max(self._next_seq[stream], number + 1)
        envelope = make_envelope(
            type(body).__name__, subject=subject_of(body), writer=writer, seq=number, cause=cause, time=AT
        )
        partition = crc32(key_of(body, writer) or b"") % topics.TOPICS[topic].partitions(SPREAD)
        return self._place(TopicPartition(topic, partition), Event(Origin(topic, partition, 0, AT), envelope, body))

    def again(self, event: Event) -> Event:
        """Append a copy of an event, as a producer that got no answer does."""
        return self._place(event.origin.topic_partition, event)

    def batch(self) -> Batch:
        """Return the whole log as one batch."""
        return next(self.batches(Random(0), most=1_000_000))

    def batches(self, random: Random, most: int = 10) -> Iterator[Batch]:
        """Yield the log as batches of random size that keep the order of each partition and no other."""
        read = dict.fromkeys(self.partitions, 0)
        while any(read[place] < len(events) for place, events in self.partitions.items()):
            begins, taken = dict(read), list[Event]()
            for _ in range(random.randint(1, most)):
                open_places = sorted(place for place, events in self.partitions.items() if read[place] < len(events))
                if not open_places:
                    break
                place = random.choice(open_places)
                taken.append(self.partitions[place][read[place]])
                read[place] += 1
            touched = {event.origin.topic_partition for event in taken}
            yield Batch(
                events=tuple(taken),
                positions={place: read[place] for place in touched},
                begins={place: begins[place] for place in touched},
            )

    def _place(self, place: TopicPartition, event: Event) -> Event:
        origin = Origin(place.topic, place.partition, len(self.partitions[place]), AT)
        placed = Event(origin, event.envelope, event.body)
        self.partitions[place].append(placed)
        return placed


def metrics(run_id: str, points: Sequence[tuple[str, int, int, float]]) -> MetricsLogged:
    """Return a MetricsLogged of (key, step, timestamp, value) points."""
    keys = tuple(sorted({point[0] for point in points}))
    return MetricsLogged(
        run_id=run_id,
        keys=keys,
        key_index=np.array([keys.index(point[0]) for point in points], np.int32),
        step=np.array([point[1] for point in points], np.int64),
        timestamp=np.array([point[2] for point in points], np.int64),
        value=np.array([point[3] for point in points], np.float64),
    )


def answer(offset: int, request_id: str = "") -> Answer:
    """Return the answer to the request at ``offset``."""
    return Answer(
        request_id=request_id or f"request-{offset}", request_offset=offset, request_writer="client", request_seq=offset
    )


def positions_of(log: EventLog) -> Mapping[TopicPartition, int]:
    """Return the end of every partition."""
    return {place: len(events) for place, events in log.partitions.items()}
