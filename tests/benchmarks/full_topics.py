"""Logs full of metric events in several shapes, for benchmarks that fold them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from runtide.kafka import KafkaSettings, new_producer
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import Headers, make_envelope, to_headers
from runtide_schemas.events.metrics import MetricsLogged

AT = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What is in a log.

    Attributes:
        name: for the table.
        runs: runs whose writers take turns, an event each.
        names: metric names of each run.
        per_event: points of an event; a run's names follow one another.
        points: in all.
    """

    name: str
    runs: int
    names: int
    per_event: int
    points: int

    @property
    def events(self) -> int:
        """How many events hold the points."""
        return self.points // self.per_event


def bodies(shape: Shape) -> Iterator[MetricsLogged]:
    """Yield the events' bodies in the order of the log."""
    random, within = np.random.default_rng(0), np.arange(shape.per_event)
    names = tuple(f"layer/{number}/gradient" for number in range(shape.names))
    for number in range(shape.events):
        at = number // shape.runs * shape.per_event + within  # points of this run before these
        keys, index = np.unique(at % shape.names, return_inverse=True)
        yield MetricsLogged(
            run_id=f"{number % shape.runs:032x}",
            keys=tuple(names[key] for key in keys),
            key_index=index.astype(np.int32),
            step=at // shape.names,
            timestamp=AT + at // shape.names,
            value=random.standard_normal(shape.per_event),
        )


def records(shape: Shape) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Yield key, value and headers of each record."""
    for number, body in enumerate(bodies(shape)):
        envelope = make_envelope(
            "MetricsLogged", subject=body.run_id, writer=body.run_id, seq=number // shape.runs, time=AT
        )
        yield f"{body.run_id}{body.run_id}".encode(), encode(body), to_headers(envelope)


async def fill(kafka: KafkaSettings, shape: Shape) -> None:
    """Publish a shape's events."""
    producer = new_producer(kafka)
    await producer.start()
    for key, value, headers in records(shape):
        await producer.send(topics.METRICS, value, key=key, headers=list(headers))
    await producer.flush()
    await producer.stop()
