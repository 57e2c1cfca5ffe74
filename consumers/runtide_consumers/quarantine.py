"""What a projection has parked, and what becomes of it when operators decide.

A decision is a fact in ``runtide.quarantine``, so that it is the same for whoever folds the log again. The loop carries it
out where it stands in the log, between other records: a release tries an entity's parked records again in the order of
the log, out of the projection's own table; a drop keeps one from ever being applied, and lets what waits behind it go on.

All of it is exactly once. Records leave quarantine in the transaction that applies them, and the fact's own position moves
with the last of these; killed before, the fact is read again and finds what is left.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from runtide.schema_registry import SchemaRegistry
from runtide_consumers.decoding import StoredRecord, decode_record, park
from runtide_consumers.parking import Item, sort_items, waits_for
from runtide_consumers.poison import apply_batch
from runtide_consumers.projection import (
    Batch,
    Drop,
    Event,
    Origin,
    Parked,
    ParkedChunk,
    ParkedKind,
    Place,
    Projection,
)
from runtide_schemas.errors import FatalError, PoisonEvent
from runtide_schemas.events.quarantine import ParkedDropped, ParkedReleased

log = logging.getLogger(__name__)

RELEASED_AT_ONCE = 1_000
"""Most parked records that one transaction applies."""

Decision = ParkedReleased | ParkedDropped


def divided(items: Sequence[Item], projection: str) -> Iterator[tuple[Decision | None, Sequence[Item]]]:
    """Yield items in consecutive pieces: one that decides about what ``projection`` has parked stands alone."""
    start = 0
    for place, (_, outcome) in enumerate(items):
        body = outcome.body if isinstance(outcome, Event) else None
        if isinstance(body, ParkedReleased | ParkedDropped) and body.projection == projection:
            if place > start:
                yield None, items[start:place]
            yield body, items[place : place + 1]
            start = place + 1
    if start < len(items):
        yield None, items[start:]


@dataclass(frozen=True, slots=True)
class _Front:
    """What can be tried of some parked records: those before the first that cannot, and that one."""

    items: tuple[Item, ...]
    stuck: Parked | None


class Quarantine:
    """The parked and dropped records of a projection, as far as its loop has to know them.

    Attributes:
        blocked: entities whose later events wait.
        dropped: records that are never applied.
        applied: events that releases have applied.
    """

    def __init__(self, projection: Projection, most_bytes: int) -> None:
        """``most_bytes``: values of parked records that are held in memory at once, but for one record."""
        self._projection = projection
        self._most_bytes = most_bytes
        self.blocked: frozenset[str] = frozenset()
        self.dropped: dict[Place, Drop] = {}
        self.applied = 0

    async def load(self) -> None:
        """Read from the store what it has parked and dropped."""
        self.blocked = await self._projection.blocked()
        self.dropped = dict(await self._projection.dropped())

    def sort(self, items: Sequence[Item]) -> tuple[tuple[Event, ...], tuple[Parked, ...], frozenset[str]]:
        """Return the events to apply, the records to park, and the entities that are blocked afterwards."""
        events, parked, blocked = sort_items(items, self.blocked, self.dropped)
        return self.folded(events), parked, blocked

    def folded(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Return the events of topics that the projection folds: decisions are the loop's, not its."""
        return tuple(event for event in events if event.origin.topic in self._projection.topics)

    async def decide(self, decision: Decision, closing: Batch, schemas: SchemaRegistry) -> None:
        """Carry a decision out.

        Args:
            decision: the fact.
            closing: a batch that does nothing but move the position past the fact.
            schemas: knows the schemas of records in the Confluent wire format, or asks for them.

        Raises:
            RuntideError: as ``Projection.apply``; the position stands before the fact then.
        """
        if isinstance(decision, ParkedDropped):
            await self._drop(decision)
            await self._release(decision.entity, closing, schemas)
        elif decision.entity:
            await self._release(decision.entity, closing, schemas)
        else:
            await self._release_one(decision, closing, schemas)

    async def _drop(self, decision: ParkedDropped) -> None:
        place = Place(decision.topic, decision.partition, decision.offset)
        known = await self._projection.parked_at(place)
        if known is None:
            # Either a fold from the beginning, which has not come to the record yet, or it has been released meanwhile.
            known = Parked(Origin(*place, decision.at), None, None, (), decision.entity, "", "")
        dropped = replace(known, entity=decision.entity, kind=ParkedKind.DROPPED, reason=decision.reason)
        await self._commit(Batch(parked=(dropped,)))
        self.dropped[place] = Drop(decision.entity, decision.reason)
        log.warning("%s drops %s/%d/%d: %s", self._projection.name, *place, decision.reason)

    async def _release(self, entity: str, closing: Batch, schemas: SchemaRegistry) -> None:
        more = bool(entity)
        while more:
            chunk = await self._projection.parked(entity, RELEASED_AT_ONCE, self._most_bytes)
            more = chunk.more
            if not await self._try_chunk(chunk, entity, Batch() if more else closing, closing, schemas):
                return
        if not entity:
            await self._commit(closing)
        self.blocked -= {entity}

    async def _release_one(self, decision: ParkedReleased, closing: Batch, schemas: SchemaRegistry) -> None:
        """Try a record that belongs to no entity: nothing waits behind it."""
        known = None
        if decision.partition is not None and decision.offset is not None:
            known = await self._projection.parked_at(Place(decision.topic, decision.partition, decision.offset))
        wanted = known is not None and not known.entity and known.kind != ParkedKind.DROPPED
        chunk = ParkedChunk((known,) if wanted and known is not None else (), False)
        await self._try_chunk(chunk, "", closing, closing, schemas)

    async def _try_chunk(
        self, chunk: ParkedChunk, entity: str, final: Batch, closing: Batch, schemas: SchemaRegistry
    ) -> bool:
        """Apply parked records up to the first that is poison again, which is parked anew; return whether all could be."""
        await schemas.learn([parked.value for parked in chunk.records])
        front = self._front([_again(parked, schemas) for parked in chunk.records], entity)
        if front.stuck is not None:
            final = replace(closing, parked=(front.stuck,))
        poison = await self._try(front.items, entity, final)
        if poison is not None:
            await self._commit(replace(closing, parked=(poison,)))
        if stuck := poison or front.stuck:
            log.warning("%s: %s/%d/%d stays parked: %s", self._projection.name, *stuck.origin.place, stuck.reason)
        return stuck is None

    def _front(self, items: Sequence[Item], entity: str) -> _Front:
        others = self.blocked - {entity}
        for place, (record, outcome) in enumerate(items):
            if isinstance(outcome, Parked):
                return _Front(tuple(items[:place]), replace(outcome, entity=entity))
            if other := waits_for(record, others):
                reason = f"waits behind a parked record of {other}"
                return _Front(tuple(items[:place]), park(record, ParkedKind.BEHIND, reason, entity or other))
        return _Front(tuple(items), None)

    async def _try(self, items: Sequence[Item], entity: str, final: Batch) -> Parked | None:
        """Apply records, with ``final`` in the transaction of the last; return the first that is poison again, if any."""
        events = self.folded(outcome for _, outcome in items if isinstance(outcome, Event))
        released = tuple(outcome.origin.place for _, outcome in items)
        try:
            await apply_batch(self._projection, replace(final, events=events, released=released))
        except PoisonEvent as error:
            if not items:
                raise FatalError(f"{self._projection.name} cannot even park: {error}") from error
            if len(items) == 1:
                return park(items[0][0], error.code, str(error), entity)
            middle = len(items) // 2
            return await self._try(items[:middle], entity, Batch()) or await self._try(items[middle:], entity, final)
        self.applied += len(events)
        return None

    async def _commit(self, batch: Batch) -> None:
        await self._try((), "", batch)


def _again(parked: Parked, schemas: SchemaRegistry) -> Item:
    record = StoredRecord.of(parked)
    return record, parked if record.is_unread else decode_record(record, schemas.decoder)
