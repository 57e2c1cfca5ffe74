"""Is the gateway ready, and how far behind the log is each projection? Health is progress, not a process that runs."""

import asyncio
from collections.abc import Awaitable, Collection
from dataclasses import dataclass

from runtide_queries.operations import get_positions
from runtide_queries.server.stores import Stores
from runtide_schemas import topics
from runtide_schemas.errors import RuntideError

FOLDED_TOPICS = (topics.RUNS, topics.METRICS, topics.CATALOG, topics.DEPLOYMENTS, topics.QUARANTINE)

Positions = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """A projection's place in one partition; ``end`` and ``events_behind`` are null while the log is away."""

    topic: str
    partition: int
    position: int
    end: int | None
    events_behind: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionLag:
    """How far behind a projection is, in all and per partition; ``reason`` says why it is not known."""

    reason: str
    events_behind: int | None
    partitions: tuple[PartitionLag, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether questions can be answered. ``reasons`` is empty exactly when ``ready``."""

    ready: bool
    reasons: tuple[str, ...]
    log_events: int | None
    projections: dict[str, ProjectionLag]


async def get_readiness(stores: Stores) -> Readiness:
    """Return how far each projection has come, asking the log and all stores at once.

    One of an operator's own that is away says so in its place; the gateway answers all the same.
    """
    others = stores.others.known()
    folded = {*FOLDED_TOPICS, *(topic for one in others.values() for topic in one.topics)}
    ends, state, history, *found_in_others = await asyncio.gather(
        _asked(stores.log.ends(sorted(folded))),
        _asked(get_positions(stores.postgres)),
        _asked(stores.history.positions()),
        *(_asked(one.positions()) for one in others.values()),
    )
    known = ends if isinstance(ends, dict) else None
    projections = {
        "postgres": _projection(state, known, FOLDED_TOPICS),
        "duckdb": _projection(history, known, FOLDED_TOPICS),
        **{
            name: _projection(found, known, (*one.topics, topics.QUARANTINE))
            for (name, one), found in zip(others.items(), found_in_others, strict=True)
        },
    }
    reasons = tuple(
        f"{name}: {found}"
        for name, found in (("log", ends), ("postgres", state), ("duckdb", history))
        if isinstance(found, str)
    )
    return Readiness(
        ready=not reasons,
        reasons=reasons,
        log_events=None if known is None else sum(known.values()),
        projections=projections,
    )


async def _asked(question: Awaitable[Positions]) -> Positions | str:
    try:
        return await asyncio.wait_for(question, 5.0)
    except TimeoutError:
        return "no answer within 5 s"
    except RuntideError as error:
        return str(error)


def _projection(found: Positions | str, ends: Positions | None, folded: Collection[str]) -> ProjectionLag:
    if isinstance(found, str):
        return ProjectionLag(reason=found, events_behind=None, partitions=())
    places = sorted(set(found) | {place for place, end in (ends or {}).items() if end > 0 and place[0] in folded})
    partitions = tuple(_partition(place, found.get(place, 0), ends) for place in places)
    behind = None if ends is None else sum(partition.events_behind or 0 for partition in partitions)
    return ProjectionLag(reason="", events_behind=behind, partitions=partitions)


def _partition(place: tuple[str, int], position: int, ends: Positions | None) -> PartitionLag:
    end = None if ends is None else ends.get(place)
    behind = None if end is None else max(end - position, 0)
    return PartitionLag(topic=place[0], partition=place[1], position=position, end=end, events_behind=behind)
