"""What operators decide about parked records: published to ``runtide.quarantine``, carried out by the projections.

Nobody writes a projection's tables but the projection itself. A decision is about what one projection has parked, and is
one fact per entity, so that all decisions about an entity stand in one order.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from runtide.direct import DirectPublisher, Published
from runtide.kafka import KafkaSettings
from runtide_queries.log import Log
from runtide_queries.quarantine import DROPPED, Ask, Place, Quarantines, check_kind
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from runtide_schemas.events.quarantine import ParkedDropped, ParkedReleased
from runtide_schemas.identity import now_ms

MOST_ENTITIES = 1_000
"""Most entities of a kind that one request releases."""
MOST_TEXT = 1_000
DEADLINE_S = 10.0
_PAUSE_S = 0.1

Positions = Mapping[tuple[str, int], int]
PositionsOf = Callable[[str], Awaitable[Positions]]
"""Asks a projection, by its name, for the next offset it reads per (topic, partition)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision in the log.

    Attributes:
        projection: whose quarantine it is about.
        entity: entity that is released; of a drop, the one that the record is parked for.
        record: place of the record that is dropped, or released by itself; empty otherwise.
        topic, partition, offset: where the fact stands; offset -1 when the broker does not say.
        carried_out: whether the projection has read it; it may have parked again what it could not apply.
    """

    projection: str
    entity: str
    record: str
    topic: str
    partition: int
    offset: int
    carried_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What was decided; ``more`` when a kind has more entities than one request releases: ask again once these are done."""

    decided: tuple[Decided, ...]
    more: bool = False


class Operators:
    """Publishes decisions, one request after the other. Belongs to one event loop; connects with the first decision."""

    def __init__(self, kafka: KafkaSettings, log: Log, positions: PositionsOf) -> None:
        self._kafka = kafka
        self._log = log
        self._positions = positions
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._publisher: DirectPublisher | None = None

    async def close(self) -> None:
        """Let go of the connection."""
        await self._stack.aclose()
        self._publisher = None

    async def retry(
        self, known: Quarantines, *, entity: str, kind: str, place: Place | None, reason: str, actor: str, wait_s: float
    ) -> Decisions:
        """Have parked records tried again: of an entity, of all entities that have some of a kind, or of a record's entity.

        Raises:
            InvalidRequest: not exactly one of the three is given.
            NotFound: nothing of the kind is parked.
            TransientError: a store or the log is away.
        """
        if bool(entity) + bool(kind) + (place is not None) != 1:
            raise InvalidRequest("Say what to retry: one entity, one kind or one record")
        if kind == DROPPED:
            raise InvalidRequest("What was dropped is never applied: that is what dropping means")
        check_kind(kind)
        _check_texts(reason, actor)
        bodies, more = list[ParkedReleased](), False
        async with self._turn:
            for projection, ask in known.items():
                with _named(projection):
                    targets = await _targets(ask, entity, kind, place)
                more = more or len(targets) > MOST_ENTITIES
                bodies += [_release(projection, *target, reason) for target in targets[:MOST_ENTITIES]]
            if not bodies:
                raise NotFound(f"Nothing is parked for {entity or kind or place} in {' or '.join(known)}")
            return Decisions(decided=await self._publish(bodies, actor, wait_s), more=more)

    async def drop(self, known: Quarantines, place: Place, *, reason: str, actor: str, wait_s: float) -> Decisions:
        """Give up one record, in every projection of ``known`` that has parked it; what waits behind it goes on.

        Raises:
            InvalidRequest: no reason is given.
            NotFound: no projection has parked it.
            TransientError: a store or the log is away, or an earlier decision is not carried out yet.
        """
        _check_texts(reason, actor)
        if not reason:
            raise InvalidRequest("Say why: a dropped record is never applied, and the reason is all that is left of it")
        bodies = list[ParkedDropped]()
        async with self._turn:
            for projection, ask in known.items():
                with _named(projection):
                    await self._wait_for_earlier(projection)
                    rows = await _rows_at(ask, place)
                bodies += [_drop(projection, place, row[0], reason) for row in rows if row[1] != DROPPED]
            if not bodies:
                raise NotFound(f"{place} is not parked in {' or '.join(known)}; `runtide quarantine ls` lists what is")
            return Decisions(decided=await self._publish(bodies, actor, wait_s))

    async def _wait_for_earlier(self, projection: str) -> None:
        """Wait until a projection has carried out what was decided before: a release may have applied the record.

        A record that was applied and is then dropped would be missing from a fold from the beginning.
        """
        ends = await self._log.ends([topics.QUARANTINE])
        if not await self._reached(projection, ends, DEADLINE_S):
            raise TransientError(f"{projection} has not carried out earlier decisions yet; try again")

    async def _publish(self, bodies: list[Any], actor: str, wait_s: float) -> tuple[Decided, ...]:
        if self._publisher is None:
            publisher = DirectPublisher(self._kafka, "gateway", DEADLINE_S)
            self._publisher = await self._stack.enter_async_context(publisher)
        # Their numbers are given as the calls begin, so they stand in this order wherever they share a partition.
        places = await asyncio.gather(*(self._publisher.publish(body, actor=actor, time=body.at) for body in bodies))
        deadline = time.monotonic() + wait_s
        ends: dict[str, dict[tuple[str, int], int]] = {}
        for body, at in zip(bodies, places, strict=True):
            wanted = ends.setdefault(body.projection, {})
            wanted[at.topic, at.partition] = max(at.offset + 1, wanted.get((at.topic, at.partition), 0))
        for projection, wanted in ends.items():
            await self._reached(projection, wanted, max(0.0, deadline - time.monotonic()))
        stands = {projection: await self._positions(projection) for projection in ends}
        return tuple(_decided(body, at, stands[body.projection]) for body, at in zip(bodies, places, strict=True))

    async def _reached(self, projection: str, wanted: Positions, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while True:
            found = await self._positions(projection)
            if all(found.get(place, 0) >= offset for place, offset in wanted.items()):
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_PAUSE_S)


@contextmanager
def _named(projection: str) -> Iterator[None]:
    """Say which projection it is that cannot be asked, and how the others can do without it."""
    try:
        yield
    except TransientError as error:
        raise TransientError(
            f"Nothing was decided, as {projection} cannot be asked: {error}. Or decide for another one alone (--projection)"
        ) from error


def _decided(body: Any, at: Published, stands: Positions) -> Decided:
    return Decided(
        projection=body.projection,
        entity=body.entity,
        record="" if body.offset is None else str(Place(body.topic, body.partition, body.offset)),
        topic=at.topic,
        partition=at.partition,
        offset=at.offset,
        carried_out=0 <= at.offset < stands.get((at.topic, at.partition), 0),
    )


async def _targets(ask: Ask, entity: str, kind: str, place: Place | None) -> list[tuple[str, Place | None]]:
    """Return the entities to release, or records that belong to none."""
    if place is not None:
        return [(row[0], None if row[0] else place) for row in await _rows_at(ask, place) if row[1] != DROPPED]
    rows = await ask("list_released", entity=entity, kind=kind, most=MOST_ENTITIES + 1)
    return [(row[0], None if row[0] else Place(*row[1:4])) for row in rows]


async def _rows_at(ask: Ask, place: Place) -> Any:
    return await ask("get_parked", topic=place.topic, partition=place.partition, record_offset=place.offset)


def _release(projection: str, entity: str, place: Place | None, reason: str) -> ParkedReleased:
    if place is None:
        return ParkedReleased(projection=projection, entity=entity, reason=reason, at=now_ms())
    where = {"topic": place.topic, "partition": place.partition, "offset": place.offset}
    return ParkedReleased(projection=projection, **where, reason=reason, at=now_ms())  # type: ignore[arg-type]


def _drop(projection: str, place: Place, entity: str, reason: str) -> ParkedDropped:
    return ParkedDropped(
        projection=projection,
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        entity=entity,
        reason=reason,
        at=now_ms(),
    )


def _check_texts(*texts: str) -> None:
    for text in texts:
        if len(text) > MOST_TEXT or "\x00" in text or not text.isprintable():
            raise InvalidRequest(f"A reason or name has at most {MOST_TEXT} printable characters on one line")
