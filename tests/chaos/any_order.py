"""The same events in another log: other interleavings, other partitions, copies, lateness; each writer's order is kept.

What two writers say of one and the same run, model or endpoint is in the order of the log, which decides (the first param
and the last tag stand), so that order is kept too. Points are a matter of their writer alone.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from random import Random

from runtide_consumers.projection import Batch, Event, Origin, TopicPartition
from runtide_schemas import topics
from runtide_schemas.routing import key_of
from runtide_schemas.topics import TOPICS
from tests.event_log import EventLog

DAY_MS = 86_400_000
Stream = tuple[str, str]


def rearranged(log: EventLog, random: Random) -> EventLog:
    """Return a log of the same events that a fold must make the same of."""
    order = _interleaved(_streams(log), random)
    for _ in range(random.randint(0, 8)):
        order = _sent_again(order, random)
    spread = random.randint(1, 5)
    other = EventLog()
    for event in order:
        _place(other, event, spread, random)
    return other


def in_batches(log: EventLog, random: Random) -> Iterator[Batch]:
    """Yield a log in batches with boundaries anywhere: single events, a few, or everything at once."""
    return log.batches(random, random.choice((1, 3, 20, 10_000)))


def _streams(log: EventLog) -> dict[Stream, list[Event]]:
    streams: defaultdict[Stream, list[Event]] = defaultdict(list)
    for (topic, _), events in log.partitions.items():
        for event in events:
            streams[_stream(topic, event)].append(event)
    return streams


def _stream(topic: str, event: Event) -> Stream:
    if topic == topics.METRICS:
        return topic, f"{event.body.run_id} {event.envelope.writer}"
    return topic, event.body.run_id if topic == topics.RUNS else ""


def _interleaved(streams: dict[Stream, list[Event]], random: Random) -> list[Event]:
    """Merge streams at random; some come so late that nearly everything else is there before."""
    left = {stream: list(reversed(events)) for stream, events in sorted(streams.items())}
    weights = {stream: random.random() ** 6 + 1e-9 for stream in left}
    order: list[Event] = []
    while left:
        [stream] = random.choices(list(left), [weights[stream] for stream in left])
        order.append(left[stream].pop())
        if not left[stream]:
            del left[stream]
    return order


def _sent_again(order: Sequence[Event], random: Random) -> list[Event]:
    """Send a part of a stream again, somewhere after it was sent: a producer's retry, or a sync of a whole spool."""
    if not order:
        return []
    chosen = random.choice(order)
    stream = _stream(chosen.origin.topic, chosen)
    places = [place for place, event in enumerate(order) if _stream(event.origin.topic, event) == stream]
    first, last = sorted(random.choices(range(len(places)), k=2))
    again = [order[place] for place in places[first : last + 1]]
    after = random.randint(places[last] + 1, len(order))
    return [*order[:after], *again, *order[after:]]


def _place(log: EventLog, event: Event, spread: int, random: Random) -> None:
    topic = event.origin.topic
    key = key_of(event.body, event.envelope.writer) or b""
    partition = TopicPartition(topic, zlib.crc32(key) % TOPICS[topic].partitions(spread))
    events = log.partitions[partition]
    at = event.origin.timestamp_ms + random.randint(0, 9) * DAY_MS
    events.append(Event(Origin(*partition, len(events), at), event.envelope, event.body))
