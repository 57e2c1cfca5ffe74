"""The one loop that feeds every projection: fetch, decode, batch, apply, next.

While a batch is applied the next one is fetched and decoded, and no more than that: memory stays bounded however slow
the store is. Whenever store or broker were away the loop starts over from the positions that the store then has, so the
outcome of a commit that nobody heard of is never guessed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtide.kafka import KafkaSettings
from runtide.schema_registry import SchemaRegistry
from runtide_consumers.counters import Counters
from runtide_consumers.decoding import decode_record, park
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.parking import Item, ParkingGuard, ParkingLimits, waits_for
from runtide_consumers.poison import apply_batch
from runtide_consumers.progress import Progress
from runtide_consumers.projection import Batch, Parked, Projection, TopicPartition
from runtide_consumers.quarantine import Decision, Quarantine, divided
from runtide_schemas import topics
from runtide_schemas.confluent import DecoderById
from runtide_schemas.errors import FatalError, PoisonEvent, TransientError

log = logging.getLogger(__name__)

_INLINE_RECORDS = 50
_MEASURE_S = 1.0
_CHECK_OWNER_S = 2.0
_MANY = 500
_LONGEST_BREATH_S = 0.05


@dataclass(frozen=True, slots=True)
class ProjectorSettings:
    """How a projector works.

    Attributes:
        limits: how much goes into a batch.
        parking: how much may be parked before it stops.
        first_pause_s, longest_pause_s: back-off while store or broker are away.
        report_every_s: seconds between two lines in the log.
    """

    limits: BatchLimits = field(default_factory=BatchLimits)
    parking: ParkingLimits = field(default_factory=ParkingLimits)
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    report_every_s: float = 30.0


async def run_projector(
    projection: Projection,
    kafka_settings: KafkaSettings,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None] = lambda: None,
    settings: ProjectorSettings | None = None,
    counters: Counters | None = None,
    progress: Progress | None = None,
    until: Mapping[TopicPartition, int] | None = None,
) -> None:
    """Feed ``projection`` until ``stop`` is set; then finish the batch at hand, close the projection and return.

    ``ready`` is called once, when everything is applied that the log held when reading began. ``progress`` is told of
    every round that ended well. With ``until`` nothing at or past these offsets is read (a rebuild's end is where another
    store stands), and everything before them counts as all that the log held.

    Raises:
        FatalError: going on would lose or corrupt something (fenced, log truncated, too many parked).
    """
    projector = _Projector(
        projection,
        kafka_settings,
        stop,
        ready,
        settings or ProjectorSettings(),
        counters or Counters(),
        progress or Progress(),
        until,
    )
    try:
        await projector.run()
    finally:
        await projection.close()


class _Projector:
    def __init__(
        self,
        projection: Projection,
        kafka_settings: KafkaSettings,
        stop: asyncio.Event,
        ready: Callable[[], None],
        settings: ProjectorSettings,
        counters: Counters,
        progress: Progress,
        until: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        self._until = until
        self._projection = projection
        self._kafka_settings = kafka_settings
        self._stop = stop
        self._ready: Callable[[], None] | None = ready
        self._settings = settings
        self._counters = counters
        self._progress = progress
        self._guard = ParkingGuard(settings.parking)
        self._applied: dict[TopicPartition, int] = {}
        self._reader: LogReader | None = None
        self._quarantine = Quarantine(projection, settings.limits.max_bytes)
        self._pause = settings.first_pause_s
        self._reported = (time.monotonic(), 0)
        self._breath_s = 0.0
        self._checked_at = time.monotonic()

    async def run(self) -> None:
        measuring = asyncio.create_task(self._measure())
        try:
            await self._run()
        finally:
            measuring.cancel()
            await self._exchange(None)

    async def _run(self) -> None:
        opened = False
        while not self._stop.is_set():
            try:
                if not opened:
                    await self._projection.open()
                    opened = True
                await self._project()
            except TransientError as error:
                self._counters.retries += 1
                log.warning("%s: %s; trying again in %.1f s", self._projection.name, error, self._pause)
                await self._wait()

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), self._pause)
        except TimeoutError:
            self._pause = min(2 * self._pause, self._settings.longest_pause_s)

    async def _project(self) -> None:
        """Read from the store's own positions on until stopped, or until something was away or has changed."""
        positions = dict(await self._projection.positions())
        await self._quarantine.load()
        # What was decided about records comes before the records: a fold from the beginning must not apply what was dropped.
        decisions = frozenset({topics.QUARANTINE})
        wanted = self._projection.topics | decisions
        reader = await LogReader.open(self._kafka_settings, wanted, positions, self._until, first=decisions)
        await self._exchange(reader)
        self._applied = reader.positions_at_start()
        log.info("%s reads %d partitions of %s", self._projection.name, len(self._applied), sorted(wanted))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await self._follow(reader, stopping)
        finally:
            stopping.cancel()

    async def _exchange(self, reader: LogReader | None) -> None:
        """Go on with another reader. The one before is kept until then: it tells the lag while the store is away."""
        before, self._reader = self._reader, reader
        if before is not None:
            await before.close()

    async def _measure(self) -> None:
        """Keep the lag true also while a batch keeps the loop waiting, or the store cannot be reached."""
        while True:
            if (reader := self._reader) is not None:
                with contextlib.suppress(TransientError):  # whoever fetches finds out as well, and says so
                    await reader.ask_for_ends()
                self._counters.lag = reader.lag(self._applied)
            await asyncio.sleep(_MEASURE_S)

    async def _follow(self, reader: LogReader, stopping: "asyncio.Task[Any]") -> None:
        wanted = asyncio.Event()
        fetching = asyncio.create_task(self._fetch(reader, wanted))
        try:
            while not stopping.done():
                self._announce(reader)
                wanted.set()
                await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    return
                items = await fetching
                wanted.clear()
                fetching = asyncio.create_task(self._fetch(reader, wanted))
                started = time.monotonic()
                await self._apply_all(items, reader.schemas)
                self._breath_s = _breath(len(items), time.monotonic() - started)
                if await self._report(reader):
                    return
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    async def _fetch(self, reader: LogReader, wanted: asyncio.Event) -> list[Item]:
        await asyncio.sleep(self._breath_s)
        records = await reader.fetch(self._settings.limits, wanted)
        self._counters.records += len(records)
        self._counters.bytes += sum(len(record.value or b"") + len(record.key or b"") for record in records)
        if len(records) <= _INLINE_RECORDS:
            return _decode(records, reader.schemas.decoder)
        return await asyncio.to_thread(_decode, records, reader.schemas.decoder)

    async def _apply_all(self, items: list[Item], schemas: SchemaRegistry) -> None:
        if not items:
            await self._check_owner()
            return
        self._guard.note(isinstance(outcome, Parked) for _, outcome in items)
        self._guard.check(outcome.reason for _, outcome in items if isinstance(outcome, Parked))
        for decision, piece in divided(items, self._projection.name):
            if decision is None:
                await self._apply(piece)
            else:
                await self._decide(decision, piece, schemas)
        self._pause = self._settings.first_pause_s

    async def _decide(self, decision: Decision, items: Sequence[Item], schemas: SchemaRegistry) -> None:
        begins, positions = self._span(items)
        applied = self._quarantine.applied
        await self._quarantine.decide(decision, Batch(positions=positions, begins=begins), schemas)
        self._applied.update(positions)
        self._counters.events += self._quarantine.applied - applied
        self._counters.batches += 1

    async def _check_owner(self) -> None:
        """Find out now and then, although there is nothing to apply, whether the store was taken over or exchanged."""
        if time.monotonic() - self._checked_at >= _CHECK_OWNER_S:
            await self._projection.apply(Batch())
            self._checked_at = time.monotonic()

    async def _apply(self, items: Sequence[Item]) -> None:
        """Apply items in one transaction, or, when one of them is poison, in as many as it takes to find it."""
        events, parked, blocked = self._quarantine.sort(items)
        begins, positions = self._span(items)
        batch = Batch(events, parked, positions=positions, begins=begins)
        started = time.perf_counter()
        try:
            await apply_batch(self._projection, batch)
        except PoisonEvent as error:
            await self._apply_around(items, error)
            return
        self._counters.observe_batch(len(batch.events), time.perf_counter() - started)
        self._quarantine.blocked = blocked
        self._applied.update(batch.positions)
        self._counters.events += len(batch.events)
        self._counters.parked += len(batch.parked)
        self._counters.batches += 1
        for record, _ in items:
            self._counters.applied_at[TopicPartition(record.topic, record.partition)] = record.timestamp

    async def _apply_around(self, items: Sequence[Item], error: PoisonEvent) -> None:
        if len(items) > 1:
            middle = len(items) // 2
            await self._apply(items[:middle])
            await self._apply(items[middle:])
            return
        record, outcome = items[0]
        if isinstance(outcome, Parked) or waits_for(record, self._quarantine.blocked):
            raise FatalError(f"{self._projection.name} cannot even park {outcome.origin}: {error}") from error
        self._guard.turned_out_bad()
        self._guard.check([str(error)])
        log.warning("%s parks %s: %s", self._projection.name, outcome.origin, error)
        await self._apply([(record, park(record, error.code, str(error)))])

    def _span(self, items: Sequence[Item]) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        positions: dict[TopicPartition, int] = {}
        for record, _ in items:
            positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return {partition: self._applied[partition] for partition in positions}, positions

    def _announce(self, reader: LogReader) -> None:
        if self._ready is not None and reader.reached(self._applied):
            self._ready()
            self._ready = None

    async def _report(self, reader: LogReader) -> bool:
        """Write a line to the log now and then; return whether the reader has to be opened anew."""
        self._counters.lag = reader.lag(self._applied)
        self._progress.note(reader.heard_at(), sum(self._counters.lag.values()))
        reported_at, events = self._reported
        if time.monotonic() - reported_at < self._settings.report_every_s:
            return False
        if self._counters.events != events:
            log.info("%s: %s", self._projection.name, self._counters)
        self._reported = (time.monotonic(), self._counters.events)
        return await reader.has_grown()


def _breath(records: int, apply_s: float) -> float:
    """Return how long to wait before more is read, counted from when the batch before began to be applied.

    A transaction costs much the same whether it holds one record or a hundred. Where small events come one after the other they
    are let gather, so that half of the time is left to the rest of the machine; one now and then comes after the wait and is
    applied at once, and a backlog is not slowed down.
    """
    return 0.0 if records > _MANY else min(2.0 * apply_s, _LONGEST_BREATH_S)


def _decode(records: Iterable[Any], by_id: DecoderById) -> list[Item]:
    return [(record, decode_record(record, by_id)) for record in records]
