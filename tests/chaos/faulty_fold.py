"""``python -m tests.chaos.faulty_fold POINT kill|stop NTH postgres|duckdb DSN|FILE``: a faulty fold of a log in memory.

The same faults as ``faulty_projector`` without a broker, so that tests which are to be quick have a process to kill. Exit
code 3: another one has taken over.
"""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Batch, Projection, TopicPartition
from runtide_schemas.errors import Fenced
from tests.chaos.faulty_projector import ARM, Fault
from tests.event_log import EventLog
from tests.random_history import random_history

FENCED = 3
_EVENTS = 5


def the_log() -> EventLog:
    """Return the log that all of them fold."""
    return random_history(Random(1), 30)


def rest_of(log: EventLog, positions: Mapping[TopicPartition, int]) -> Iterator[Batch]:
    """Yield what a store that stands there has still to fold, in small batches."""
    for place, events in log.partitions.items():
        for at in range(positions.get(place, 0), len(events), _EVENTS):
            some = tuple(events[at : at + _EVENTS])
            yield Batch(some, (), {place: at + len(some)}, {place: at})


def store_at(store: str, where: str) -> Projection:
    """Return the projection of a store, not opened."""
    return PostgresProjection(where) if store == "postgres" else DuckdbProjection(DuckdbSettings(file=Path(where)))


async def fold(projection: Projection) -> int:
    """Fold what the store lacks of the log; return how many batches that were."""
    await projection.open()
    count = 0
    try:
        for batch in rest_of(the_log(), await projection.positions()):
            await projection.apply(batch)
            count += 1
    finally:
        await projection.close()
    return count


def main() -> int:
    """Arm a projection and fold."""
    _, point, action, nth, store, where = sys.argv
    ARM[store](Fault(point, action, int(nth)))
    try:
        asyncio.run(fold(store_at(store, where)))
    except Fenced:
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main())
