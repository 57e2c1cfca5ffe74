"""A log in memory with records that cannot be applied, the projector's loop over it, and operators who decide about them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from random import Random
from typing import Any
from zlib import crc32

from runtide.kafka import KafkaSettings
from runtide.schema_registry import registry_for
from runtide_consumers.counters import Counters
from runtide_consumers.decoding import StoredRecord, decode_record
from runtide_consumers.parking import ParkingLimits
from runtide_consumers.progress import Progress
from runtide_consumers.projection import Batch, Event, Place, Projection, TopicPartition
from runtide_consumers.projector import ProjectorSettings, _Projector
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.quarantine import ParkedDropped, ParkedReleased
from runtide_schemas.events.runs import RunStarted, TagsDeleted, TagsSet
from runtide_schemas.routing import key_of, subject_of, topic_of
from tests.unit.event_log import AT, SPREAD, EventLog

KAFKA = KafkaSettings(bootstrap="127.0.0.1:1")
OPERATOR = "0" * 32
RUN, OTHER = "a" * 32, "b" * 32
_ROUNDS = 30
"""Of releases and drops at a history's end: more than records that were spoiled."""


class ParkedLog:
    """Partitions of records."""

    def __init__(self, log: EventLog | None = None) -> None:
        """Begin with the events of a log."""
        self.partitions: defaultdict[TopicPartition, list[StoredRecord]] = defaultdict(list)
        self._decisions = 0
        for place, events in (log.partitions if log else {}).items():
            self.partitions[place] = [_record(event) for event in events]

    def append(self, body: Any, writer: str = "w0", seq: int = 0) -> Place:
        """Append an event."""
        envelope = make_envelope(type(body).__name__, subject=subject_of(body), writer=writer, seq=seq, time=AT)
        key = key_of(body, writer) or b""
        partition = crc32(key) % topics.TOPICS[topic_of(body)].partitions(SPREAD)
        place = Place(topic_of(body), partition, len(self.partitions[TopicPartition(topic_of(body), partition)]))
        self.partitions[TopicPartition(*place[:2])].append(
            StoredRecord(*place, AT, key, encode(body), tuple(to_headers(envelope)))
        )
        return place

    def spoil(self, place: Place, value: bytes = b"\xc3\x01garbage.") -> None:
        """Give a record another value."""
        records = self.partitions[TopicPartition(*place[:2])]
        records[place.offset] = replace(records[place.offset], value=value)

    def copy(self) -> "ParkedLog":
        """Return a log that begins as this one is."""
        copied = ParkedLog()
        copied.partitions.update({place: list(records) for place, records in self.partitions.items()})
        return copied

    def release(self, projection: str, entity: str) -> None:
        """Decide that an entity's records are tried again."""
        self._decide(ParkedReleased(projection=projection, entity=entity, reason="fixed", at=AT))

    def drop(self, projection: str, place: Place, entity: str) -> None:
        """Decide that a record is never applied."""
        body = ParkedDropped(
            projection=projection,
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            entity=entity,
            reason="not worth it",
            at=AT,
        )
        self._decide(body)

    def places(self) -> Iterator[Place]:
        """Yield where every record stands, decisions left out."""
        for place, records in sorted(self.partitions.items()):
            if place.topic != topics.QUARANTINE:
                yield from (Place(*place, offset) for offset in range(len(records)))

    def _decide(self, body: Any) -> None:
        self.append(body, OPERATOR, self._decisions)
        self._decisions += 1


class Loop:
    """The loop of a projector, fed by the test instead of a broker."""

    def __init__(self, projection: Projection) -> None:
        """The projection is open."""
        self.projection = projection
        self._projector: _Projector

    async def start(self) -> None:
        """Begin where the store stands, as after a kill."""
        settings = ProjectorSettings(parking=ParkingLimits(share=1.0))
        self._projector = _Projector(
            self.projection, KAFKA, asyncio.Event(), lambda: None, settings, Counters(), Progress()
        )
        self._projector._applied = defaultdict(int, await self.projection.positions())
        await self._projector._quarantine.load()

    @property
    def blocked(self) -> frozenset[str]:
        """The entities whose events wait."""
        return self._projector._quarantine.blocked

    async def read(self, log: ParkedLog, random: Random, most: int, topic: str = "") -> bool:
        """Read up to ``most`` records of partitions in random order, as one fetch; return whether there were any."""
        applied = self._projector._applied
        taken: list[StoredRecord] = []
        positions = {place: applied[place] for place in sorted(log.partitions) if topic in ("", place.topic)}
        for _ in range(random.randint(1, most)):
            left = [place for place, at in positions.items() if at < len(log.partitions[place])]
            if left:
                place = random.choice(left)
                taken.append(log.partitions[place][positions[place]])
                positions[place] += 1
        items = [(record, decode_record(record)) for record in taken]
        await self._projector._apply_all(items, registry_for(KAFKA.schema_registry))
        return bool(taken)

    async def read_on(self, log: ParkedLog) -> None:
        """Read what there is."""
        while await self.read(log, Random(0), 10):
            pass

    async def read_all(self, log: ParkedLog, random: Random) -> None:
        """Read to the end: first what was decided, as a projector does that begins."""
        while await self.read(log, random, 20, topics.QUARANTINE):
            pass
        while await self.read(log, random, 20):
            pass


def break_handlers(handlers: MutableMapping[type, Any], bad: set[Place], monkeypatch: Any) -> None:
    """Make every handler of a fold raise for the records of ``bad``."""
    for body, handler in list(handlers.items()):

        def broken(rows: Any, event: Event, handler: Any = handler) -> None:
            if event.origin.place in bad:
                raise KeyError(f"no such thing as {event.origin.offset}")
            handler(rows, event)

        monkeypatch.setitem(handlers, body, broken)


async def history_of_decisions(loop: Loop, log: ParkedLog, bad: set[Place], random: Random, parked: Any) -> None:
    """Read a log to its end while bugs are fixed and operators decide at random; nothing is parked in the end.

    ``parked()`` returns (place, entity, kind) of what the store has in quarantine.
    """
    await loop.start()
    while await loop.read(log, random, 12) or bad:
        step = random.choices(("kill", "fix", "release", "drop", "nothing"), (15, 15, 20, 10, 40))[0]
        if step == "kill":
            await loop.start()
        elif step == "fix" and bad:
            bad.remove(random.choice(sorted(bad)))
        elif step == "release" and (waiting := await parked()):
            log.release(loop.projection.name, random.choice(waiting)[1])
        elif step == "drop":
            await _drop_one(loop, log, random, parked)
    await _settle(loop, log, random, parked)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class Dying:
    """A projection whose process is killed at one of its transactions, before or after the commit."""

    def __init__(self, projection: Projection, at: int, *, committed: bool) -> None:
        self._projection, self._left, self._committed = projection, at, committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._projection, name)

    async def apply(self, batch: Batch) -> None:
        """Apply, or die."""
        if not self._committed:
            self._die_in_time()
        await self._projection.apply(batch)
        if self._committed:
            self._die_in_time()

    def _die_in_time(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed


def log_with_poison() -> tuple[ParkedLog, set[Place]]:
    """Return a log in which two records of a run are poison, and others wait behind them; another run is well."""
    log = ParkedLog()
    log.append(RunStarted(run_id=RUN, name="run", start_time=AT), seq=0)
    first = log.append(TagsSet(run_id=RUN, tags={"a": "1"}), seq=1)
    log.append(TagsSet(run_id=RUN, tags={"a": "2", "b": "1"}), seq=2)
    second = log.append(TagsDeleted(run_id=RUN, keys=("b",)), seq=3)
    log.append(TagsSet(run_id=RUN, tags={"a": "3"}), seq=4)
    log.append(RunStarted(run_id=OTHER, name="other", start_time=AT), "w1")
    return log, {first, second}


async def dies(loop: Loop, log: ParkedLog) -> bool:
    """Read what there is; return whether the process was killed meanwhile."""
    try:
        await loop.read_on(log)
    except Killed:
        return True
    return False


async def _settle(loop: Loop, log: ParkedLog, random: Random, parked: Any) -> None:
    """Release all and drop what is still poison, until nothing is parked."""
    for _ in range(_ROUNDS):
        waiting = [one for one in await parked() if one[2] != "dropped"]
        for entity in sorted({entity for _, entity, _ in waiting}):
            log.release(loop.projection.name, entity)
        while await loop.read(log, random, 12):
            pass
        for place, entity, kind in await parked():
            if kind not in ("behind", "dropped") and entity in loop.blocked:
                log.drop(loop.projection.name, place, entity)
        while await loop.read(log, random, 12):
            pass
    assert (loop.blocked, waiting) == (frozenset(), [])


async def _drop_one(loop: Loop, log: ParkedLog, random: Random, parked: Any) -> None:
    """Drop what is parked once all earlier decisions are carried out, as the gateway asks for."""
    while await loop.read(log, random, 12, topics.QUARANTINE):
        pass
    waiting = [one for one in await parked() if one[2] != "dropped"]
    if waiting:
        place, entity, _ = random.choice(waiting)
        log.drop(loop.projection.name, place, entity)


def _record(event: Event) -> StoredRecord:
    at, body = event.origin, event.body
    key = key_of(body, event.envelope.writer)
    return StoredRecord(*at.place, at.timestamp_ms, key, encode(body), tuple(to_headers(event.envelope)))
