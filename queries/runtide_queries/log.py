"""The events of one run, straight from the log: what was said, by whom and when, before any projection.

A run's lifecycle lies in the one partition of ``runtide.runs`` that its key hashes to; its metrics lie wherever its writers
hashed to in ``runtide.metrics``. Each partition is read in order up to the end it had at the start, and the partitions are
merged by event time, so memory stays bounded by what the client library prefetches.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from runtide.kafka import KafkaSettings, describe, explained, new_consumer, stop_consumer
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_queries.past.moments import Span
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.confluent import DecoderById, NoRegistry, SchemaPending
from runtide_schemas.envelope import Envelope, from_headers
from runtide_schemas.errors import FatalError, InvalidRequest, PoisonEvent, TransientError

STALL_S = 20.0
READ_S = 120.0
MAX_READS = 4
PARTITIONS_KNOWN_S = 5.0
"""How long it may take until partitions that were added to a topic are seen."""
_FETCH_BYTES = 16 * 1024 * 1024
_POLL_MS = 500
_BATCH = 500

Progress = Callable[[int, int], None]
"""Called with (offsets read, offsets to read)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the log a record lies; the broker's timestamp in Unix milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event as it lies in the log. ``body`` is None and ``problem`` says why when it cannot be decoded."""

    origin: Origin
    envelope: Envelope
    body: Any
    problem: str = ""


class Log:
    """The log, for readers. One connection for positions; a fresh one for each read of events."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._positions_consumer: AIOKafkaConsumer | None = None
        self._known: dict[str, tuple[float, list[TopicPartition]]] = {}
        self._lock = asyncio.Lock()
        self._reads = asyncio.Semaphore(MAX_READS)

    async def close(self) -> None:
        """Close the connection."""
        if self._positions_consumer is not None:
            consumer, self._positions_consumer = self._positions_consumer, None
            await stop_consumer(consumer)

    async def ends(self, names: Iterable[str], *, deadline_s: float = 5.0) -> dict[tuple[str, int], int]:
        """Return the offset after the last record, per (topic, partition) of those topics that exist.

        Raises:
            TransientError: the broker is away.
            FatalError: it does not let us in; the message says what to change.
        """
        async with self._asking(deadline_s) as consumer:
            partitions = [one for name in names for one in await self._partitions(consumer, name)]
            found = await consumer.end_offsets(partitions) if partitions else {}
        return {(partition.topic, partition.partition): end for partition, end in found.items()}

    async def _partitions(self, consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
        """Return a topic's partitions, as they were a few seconds ago at most."""
        learned_at, known = self._known.get(topic, (0.0, []))
        if not known or time.monotonic() - learned_at > PARTITIONS_KNOWN_S:
            known = await partitions_in(consumer, topic)
            self._known[topic] = time.monotonic(), known
        return known

    async def spans(self, names: Iterable[str], *, deadline_s: float = 5.0) -> dict[tuple[str, int], Span]:
        """Return what each partition of those topics holds; raises as ``ends``."""
        async with self._asking(deadline_s) as consumer:
            partitions = [one for name in names for one in await partitions_in(consumer, name)]
            begins = await consumer.beginning_offsets(partitions) if partitions else {}
            ends = await consumer.end_offsets(partitions) if partitions else {}
        return {tuple(partition): Span(begins[partition], ends[partition]) for partition in partitions}

    async def first_after(
        self, partitions: Iterable[tuple[str, int]], time_ms: int, *, deadline_s: float = 5.0
    ) -> dict[tuple[str, int], tuple[int, int] | None]:
        """Return offset and time of the first record of each partition that is later than ``time_ms``, None for none.

        Raises as ``ends``.
        """
        wanted = {TopicPartition(*place): time_ms + 1 for place in partitions}
        async with self._asking(deadline_s) as consumer:
            found = await consumer.offsets_for_times(wanted) if wanted else {}
        return {tuple(one): None if (at := found.get(one)) is None else (at.offset, at.timestamp) for one in wanted}

    async def time_of(self, topic: str, partition: int, offset: int, *, deadline_s: float = 5.0) -> int:
        """Return the time of the record at an offset, Unix milliseconds.

        Raises:
            InvalidRequest: it is not there, or not any more.
            TransientError: the broker is away.
        """
        place = TopicPartition(topic, partition)
        async with self._reads, self._reader() as consumer, asyncio.timeout(deadline_s):
            [begin], [end] = (
                (await consumer.beginning_offsets([place])).values(),
                (await consumer.end_offsets([place])).values(),
            )
            if not begin <= offset < end:
                raise InvalidRequest(
                    f"{topic}-{partition} holds the records {begin} to {end - 1}, {offset} is none of them"
                )
            consumer.assign([place])
            consumer.seek(place, offset)
            return int((await consumer.getone(place)).timestamp)

    async def events(
        self, run_id: str, *, metrics: bool = True, progress: Progress | None = None
    ) -> AsyncGenerator[LoggedEvent, None]:
        """Yield the run's events in time order (order within a partition always kept), up to the log's end of now.

        At most ``MAX_READS`` reads go on at a time; others wait. Whoever stops early closes it (``contextlib.aclosing``).

        Parameters:
            run_id: the run.
            metrics: read the metrics topic too; all of its partitions have to be scanned.
            progress: called now and then with (offsets read, offsets to read).

        Raises:
            TransientError: the broker is away, or nothing came for 20 s.
        """
        async with self._reads, self._reader() as consumer:
            spans = await self._spans(consumer, run_id, metrics)
            tally = _Tally(sum(end - start for start, end in spans.values()), progress)
            schemas = registry_for(self._settings.schema_registry)
            streams = [_stream(consumer, partition, run_id, span, tally, schemas) for partition, span in spans.items()]
            async for event in _merged(streams):
                yield event

    async def first_events(self, run_id: str, most: int, *, metrics: bool = True) -> tuple[list[LoggedEvent], bool]:
        """Return the run's first ``most`` events in time order, and whether there are more.

        Raises:
            TransientError: the broker is away, or reading took longer than ``READ_S``.
        """
        found: list[LoggedEvent] = []
        try:
            async with asyncio.timeout(READ_S), aclosing(self.events(run_id, metrics=metrics)) as events:
                async for event in events:
                    if len(found) == most:
                        return found, True
                    found.append(event)
        except TimeoutError as error:
            raise TransientError(
                f"reading the log took longer than {READ_S:g} s; without metrics only the run's own partition is read"
            ) from error
        return found, False

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = new_consumer(self._settings, fetch_max_bytes=_FETCH_BYTES)
        try:
            await consumer.start()
            yield consumer
        except (KafkaError, OSError) as error:
            raise await _away(self._settings, error) from error
        finally:
            await stop_consumer(consumer)

    @asynccontextmanager
    async def _asking(self, deadline_s: float) -> AsyncIterator[AIOKafkaConsumer]:
        """The connection for positions, for one caller at a time."""
        async with self._lock:
            try:
                async with asyncio.timeout(deadline_s):
                    yield await self._connected()
            except (KafkaError, OSError) as error:
                await self.close()
                raise await _away(self._settings, error) from error

    async def _connected(self) -> AIOKafkaConsumer:
        if self._positions_consumer is None:
            consumer = new_consumer(self._settings)
            self._positions_consumer = consumer
            await consumer.start()
        return self._positions_consumer

    async def _spans(
        self, consumer: AIOKafkaConsumer, run_id: str, metrics: bool
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Assign what has to be read and return (begin, end) of each partition that holds anything."""
        runs = await partitions_in(consumer, topics.RUNS)
        wanted = [runs[partition_of(run_id.encode(), len(runs))]] if runs else []
        wanted += await partitions_in(consumer, topics.METRICS) if metrics else []
        if not wanted:
            return {}
        begins, ends = await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted)
        spans = {partition: (begins[partition], ends[partition]) for partition in wanted}
        spans = {partition: span for partition, span in spans.items() if span[0] < span[1]}
        consumer.assign(list(spans))
        for partition, (begin, _) in spans.items():
            consumer.seek(partition, begin)
        return spans


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner sends ``key`` to (murmur2 of the key, positive, modulo)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class _Tally:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def add(self, offsets: int) -> None:
        self._done += offsets
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


async def partitions_in(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Return a topic's partitions, in order; none when it does not exist."""
    # The public partitions_for_topic() knows assigned topics only (aiokafka 0.14), and these are not assigned yet.
    cluster = await consumer._client.fetch_all_metadata()
    found = cluster.partitions_for_topic(topic) or set()
    return [TopicPartition(topic, number) for number in sorted(found)]


async def _stream(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    run_id: str,
    span: tuple[int, int],
    tally: _Tally,
    schemas: SchemaRegistry,
) -> AsyncIterator[LoggedEvent]:
    """Yield the run's events of one partition, in order, up to the span's end."""
    position, end = span
    subject, last_heard = run_id.encode(), time.monotonic()
    while position < end:
        batches = await consumer.getmany(partition, timeout_ms=_POLL_MS, max_records=_BATCH)
        records = [record for record in batches.get(partition, ()) if record.offset < end]
        records = [record for record in records if dict(record.headers).get("ce_subject") == subject]
        await schemas.learn([record.value for record in records])
        for record in records:
            if (event := logged_event(record, schemas.decoder)) is not None:
                yield event
        reached = min(await consumer.position(partition), end)
        if reached > position:
            tally.add(reached - position)
            position, last_heard = reached, time.monotonic()
        elif time.monotonic() - last_heard > STALL_S:
            raise TransientError(
                f"{partition.topic}-{partition.partition} gave nothing from offset {position} (of {end}) for {STALL_S:g} s"
            )


async def _merged(streams: list[AsyncIterator[LoggedEvent]]) -> AsyncIterator[LoggedEvent]:
    """Yield the streams' events, always the earliest of their heads; each stream's own order is kept."""
    heads = {index: event for index, stream in enumerate(streams) if (event := await anext(stream, None)) is not None}
    while heads:
        index = min(heads, key=lambda at: (heads[at].envelope.time, heads[at].origin.topic != topics.RUNS, at))
        yield heads.pop(index)
        following = await anext(streams[index], None)
        if following is not None:
            heads[index] = following


def logged_event(record: Any, by_id: DecoderById) -> LoggedEvent | None:
    """Return the event that a record is, None when it names no writer and type."""
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    try:
        envelope = from_headers(record.headers)
    except PoisonEvent:
        return None  # the projectors park it with its bytes
    try:
        return LoggedEvent(origin=origin, envelope=envelope, body=decode(record.value or b"", by_id))
    except (PoisonEvent, NoRegistry, SchemaPending) as error:
        return LoggedEvent(origin=origin, envelope=envelope, body=None, problem=str(error))


async def _away(settings: KafkaSettings, error: Exception) -> TransientError | FatalError:
    return await explained(settings, f"the log at {settings.bootstrap} is away ({describe(error)})")
