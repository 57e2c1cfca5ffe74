"""Reading partitions of the log from given positions on, in batches bounded by bytes and time.

Where the log has no beginning any more an archive's is read first (``archive/reading.py``), up to exactly where the log
begins: whoever reads cannot tell the difference.

aiokafka is kept on a short leash here: partitions are assigned explicitly, positions are ours, and every way in which
it could skip records in silence (an oversized record, an error of one partition while another was drained) ends in an
error or in a seek back to our own position.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from runtide.kafka import KafkaSettings, describe, explained, new_consumer, stop_consumer
from runtide.kafka_access import AccessWatch
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_consumers.archive.reading import ArchivedBeginning
from runtide_consumers.decoding import UnreadableRecord
from runtide_consumers.partition_ends import begins_now, checked_ends, ends_now, partitions_of
from runtide_consumers.projection import TopicPartition
from runtide_consumers.read_positions import ReadPositions
from runtide_schemas.errors import FatalError, LogTruncated, RuntideError, TransientError

log = logging.getLogger(__name__)

CHUNK_RECORDS = 500
FETCH_BYTES = 16 * 1024 * 1024
ASK_S = 5.0
CAREFUL_S = 2.0
"""How long to go on record by record after one that could not be parsed."""
TELL_S = 10.0
"""How often it is told how far a reader has come that has not read yet what the log held at first: supervisors count on it."""
LOOK_AT_ALL_S = 0.1
"""How often the positions of partitions without records are looked at: to ask for all costs as much as to read a few records."""

_PATIENCE_S = 3600.0
"""How long aiokafka waits until all that it has read is taken before it asks for more. By itself it asks after 0.1 s for those partitions
alone of which nothing is left, and where nothing comes of them the broker holds that for half a second: so long the others waited."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is read before a batch is handed over.

    Attributes:
        max_bytes: keys and values of a batch; passed by at most one chunk of records.
        linger_s: how long to wait for more after the first record, while nobody waits for the batch.
        idle_s: how long to wait for a first record before an empty batch is handed over.
    """

    max_bytes: int = 8 * 1024 * 1024
    linger_s: float = 0.002
    idle_s: float = 0.5


class LogReader:
    """A started consumer of some partitions. Belongs to one task."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        positions: ReadPositions,
        schemas: SchemaRegistry,
        access: AccessWatch,
        first: frozenset[str],
        beginning: ArchivedBeginning,
    ) -> None:
        self._consumer = consumer
        self._beginning = beginning
        self._positions = positions
        self._access = access
        self.schemas = schemas
        """Knows the schemas of all records that were fetched."""
        self._topics = frozenset(partition.topic for partition in positions.starts)
        self._first = [partition for partition in positions.starts if partition.topic in first]
        later = [partition for partition in positions.starts if first and partition.topic not in first]
        self._held = [KafkaPartition(*partition) for partition in later if not positions.is_over(partition)]
        self._careful_until = 0.0
        self._opened_at = time.time()
        self._looked_at_all = 0.0
        self._told = (time.monotonic(), 0)

    @classmethod
    async def open(
        cls,
        settings: KafkaSettings,
        topics: Iterable[str],
        positions: Mapping[TopicPartition, int],
        until: Mapping[TopicPartition, int] | None = None,
        *,
        first: frozenset[str] = frozenset(),
        from_begin: frozenset[str] = frozenset(),
        from_end: frozenset[str] = frozenset(),
    ) -> Self:
        """Return a reader of all partitions of ``topics``, each from its position on (0 when it has none).

        What the log does not hold any more comes out of the archive that ``settings`` name.

        Topics of ``first`` are read to the end that they have now before the others are begun. With ``until`` it hands over
        no record at or past these offsets (0 of a partition that is not named): its end is there, whatever else the log
        holds. Topics of ``from_begin`` are read from where the log begins now, whatever it has held before and no archive; of
        those of ``from_end`` only what comes after now.

        Raises:
            TransientError: the broker is away, or a topic does not exist yet.
            NoAccess: the broker will not let us in.
            LogTruncated: a position lies outside of what log and archive hold.
            FatalError: the archive is damaged, or another log's.
        """
        schemas = registry_for(settings.schema_registry)
        consumer = new_consumer(settings, fetch_max_bytes=FETCH_BYTES)
        try:
            await consumer.start()
            consumer._fetcher._prefetch_backoff = _PATIENCE_S  # not to be set in public (aiokafka 0.14)
            partitions = await partitions_of(consumer, topics)
            starts = {partition: positions.get(partition, 0) for partition in partitions}
            starts |= await begins_now(consumer, [place for place in partitions if place.topic in from_begin])
            starts |= await ends_now(consumer, [place for place in partitions if place.topic in from_end])
            ends, missing = await checked_ends(consumer, starts)
            beginning = await ArchivedBeginning.of(settings, missing)
            consumer.assign([KafkaPartition(*partition) for partition in partitions])
            for partition, offset in starts.items():
                consumer.seek(KafkaPartition(*partition), missing.get(partition, (0, offset))[1])
            if until is not None:
                ends = {partition: until.get(partition, 0) for partition in partitions}
                consumer.pause(*(KafkaPartition(*place) for place, end in ends.items() if starts[place] >= end))
                beginning.end_before(ends)
        except (KafkaError, OSError, TimeoutError) as error:
            await stop_consumer(consumer)
            raise await explained(
                settings, f"cannot read the log at {settings.bootstrap}: {describe(error)}"
            ) from error
        except BaseException:
            await stop_consumer(consumer)
            raise
        places = ReadPositions(starts, ends, stops=until is not None)
        access = AccessWatch(settings, consumer._client)
        reader = cls(consumer, places, schemas, access, first, beginning)
        consumer.pause(*reader._held, *(KafkaPartition(*partition) for partition in beginning.left))
        reader._go_on_when_first_are_read()
        return reader

    def reached(self, applied: Mapping[TopicPartition, int]) -> bool:
        """Return whether ``applied`` is at or past the last records that the log had when the reader was opened."""
        return self._positions.reached(applied)

    @property
    def read_to_end(self) -> bool:
        """Whether everything was read that the log held when the reader was opened."""
        return self.reached(self._positions.now)

    def positions_at_start(self) -> dict[TopicPartition, int]:
        """Return where reading began, of every partition."""
        return dict(self._positions.starts)

    async def has_grown(self) -> bool:
        """Return whether a topic has partitions that this reader does not know.

        Raises:
            TransientError: the broker is away.
        """
        try:
            return set(await partitions_of(self._consumer, self._topics)) != set(self._positions.now)
        except (KafkaError, OSError) as error:
            raise TransientError(f"cannot ask for partitions: {describe(error)}") from error

    async def ask_for_ends(self) -> None:
        """Ask the broker where the log ends, for ``lag``: a reader that is kept from fetching does not hear of it.

        Raises:
            TransientError: the broker is away.
        """
        try:
            async with asyncio.timeout(ASK_S):
                self._positions.asked = await ends_now(self._consumer, self._positions.now)
        except (KafkaError, ConsumerStoppedError, OSError, TimeoutError) as error:
            raise TransientError(f"cannot ask where the log ends: {describe(error)}") from error

    def lag(self, applied: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return per partition how many offsets the log is ahead of ``applied``, as far as the broker has told."""
        heard = {
            partition: self._consumer.highwater(KafkaPartition(*partition)) or 0 for partition in self._positions.now
        }
        return self._positions.lag(applied, heard)

    def heard_at(self) -> float:
        """Return the Unix time in seconds of the last answer about the partition that was longest without one.

        While an archive is read, that of the last that was read of it.
        """
        if self._beginning.left:
            return self._opened_at
        polled = [self._consumer.last_poll_timestamp(KafkaPartition(*partition)) for partition in self._positions.now]
        return min((found / 1000 if found else self._opened_at for found in polled), default=self._opened_at)

    async def fetch(self, limits: BatchLimits, wanted: asyncio.Event) -> list[Any]:
        """Return the next records: all there are when ``wanted`` is set, else more and more up to the limit of bytes.

        The list is empty after ``limits.idle_s`` without a record.

        Raises:
            TransientError: the broker is away, or the schema registry that a record refers to.
            NoAccess: the broker lets us in no more.
            LogTruncated: the log does not hold the next offset any more.
            FatalError: a record cannot be read, or may not be; or the archive is damaged.
        """
        records = await self.read(limits, wanted)
        await self.schemas.learn([record.value for record in records])
        return records

    async def read(self, limits: BatchLimits, wanted: asyncio.Event) -> list[Any]:
        """Return what ``fetch`` does, for who needs no schemas. Raises what that does."""
        records: list[Any] = []
        size, deadline = 0, 0.0
        while size < limits.max_bytes:
            now = time.monotonic()
            if records and wanted.is_set() and now >= deadline:
                break
            wait = max(deadline - now, limits.linger_s) if records else limits.idle_s
            chunk = await self._chunk(wait)
            if not records:
                if not chunk:
                    break
                deadline = time.monotonic() + limits.linger_s
            records += chunk
            size += sum(len(record.value or b"") + len(record.key or b"") for record in chunk)
        self._tell()
        return records

    async def close(self) -> None:
        """Close the connections; never raises, never hangs."""
        await stop_consumer(self._consumer)

    def _tell(self) -> None:
        """Say now and then how far it has come, while it comes on, until it has read what the log held at first."""
        told_at, told = self._told
        if time.monotonic() - told_at < TELL_S:
            return
        done, total = self._positions.so_far()
        if told < done < total:
            log.info("%d of %d records of the log are read", done, total)
        self._told = (time.monotonic(), done)

    async def _chunk(self, wait_s: float) -> list[Any]:
        if self._beginning.left and (archived := await self._archived_chunk()) is not None:
            return archived
        if time.monotonic() < self._careful_until:
            return await self._careful_chunk(wait_s)
        try:
            with _translated(self._positions.now, self._beginning.has_archive):
                chunks = await self._consumer.getmany(timeout_ms=int(wait_s * 1000), max_records=CHUNK_RECORDS)
        except RuntideError:
            raise
        except Exception as error:  # noqa: BLE001 - aiokafka's parser raises anything; which partition it is has to be found out
            log.warning("a record cannot be parsed: %s; looking for it", describe(error))
            self._careful_until = time.monotonic() + CAREFUL_S
            self._rewind()
            return []
        if not chunks:
            self._check_alive()
            await self._access.check()
        return await self._taken(chunks)

    async def _careful_chunk(self, wait_s: float) -> list[Any]:
        """Read partition by partition, record by record, so that it is known which record cannot be parsed."""
        for partition in self._positions.now:
            if partition in self._beginning.left or self._positions.is_over(partition):
                continue
            kafka_partition = KafkaPartition(*partition)
            try:
                with _translated(self._positions.now, self._beginning.has_archive):
                    chunks = await self._consumer.getmany(kafka_partition, timeout_ms=0, max_records=1)
            except RuntideError:
                raise
            except Exception as error:  # noqa: BLE001 - see above
                return [self._skipped(partition, error)]
            if chunks:
                return await self._taken(chunks)
        await asyncio.sleep(min(wait_s, 0.02))
        return []

    def _skipped(self, partition: TopicPartition, error: Exception) -> UnreadableRecord:
        offset = self._positions.now[partition]
        self._careful_until = time.monotonic() + CAREFUL_S
        self._positions.move(partition, offset + 1)
        self._rewind()
        return UnreadableRecord(*partition, offset, f"the record batch cannot be parsed: {describe(error)}")

    def _rewind(self) -> None:
        # An error of one partition makes aiokafka forget what it had already taken from others. Its own position is not
        # gone back to, because it moves past a record that is too large before it says so.
        for partition, offset in self._positions.handed.items():
            if partition not in self._beginning.left:
                self._consumer.seek(KafkaPartition(*partition), offset)

    async def _taken(self, chunks: Mapping[KafkaPartition, list[Any]]) -> list[Any]:
        moved = self._moved(chunks)
        if self._positions.until is not None:
            chunks = self._before_the_end(chunks, self._positions.until)
        for partition, chunk in chunks.items():
            self._positions.handed[TopicPartition(*partition)] = chunk[-1].offset + 1
        for partition in moved - self._beginning.left:
            # Past an empty batch, which is all that may stand at a log's end, only aiokafka's own position goes.
            self._positions.now[partition] = await self._consumer.position(KafkaPartition(*partition))
        self._go_on_when_first_are_read()
        return [record for chunk in chunks.values() for record in chunk]

    def _moved(self, chunks: Iterable[KafkaPartition]) -> set[TopicPartition]:
        """Return the partitions of which the position may have moved; of those without records, now and then."""
        if time.monotonic() - self._looked_at_all < LOOK_AT_ALL_S:
            return {TopicPartition(*partition) for partition in chunks}
        self._looked_at_all = time.monotonic()
        return set(self._positions.now)

    def _go_on_when_first_are_read(self) -> None:
        if self._held and self._positions.at_end(self._first):
            self._consumer.resume(*(one for one in self._held if TopicPartition(*one) not in self._beginning.left))
            self._held = []

    async def _archived_chunk(self) -> list[Any] | None:
        """Return the archive's next records, perhaps none; None while it has none of a topic that may be read now."""
        chunk = await self._beginning.next_chunk({TopicPartition(*partition) for partition in self._held})
        if chunk is None:
            return None
        self._opened_at = time.time()
        self._positions.move(chunk.place, chunk.position)
        if chunk.last:
            self._follow_the_log(chunk.place)
        return list(chunk.records)

    def _follow_the_log(self, partition: TopicPartition) -> None:
        """Go on in the log with a partition of which the archive's part is read: the consumer stands where the log begins."""
        if not self._positions.is_over(partition):
            self._consumer.resume(KafkaPartition(*partition))
        self._go_on_when_first_are_read()

    def _before_the_end(
        self, chunks: Mapping[KafkaPartition, list[Any]], until: Mapping[TopicPartition, int]
    ) -> dict[KafkaPartition, list[Any]]:
        """Leave out what stands at or past the end, and fetch no more of a partition that has come there."""
        kept: dict[KafkaPartition, list[Any]] = {}
        for partition, chunk in chunks.items():
            end = until[TopicPartition(*partition)]
            if chunk[-1].offset >= end - 1:
                self._consumer.pause(partition)
            if before := [record for record in chunk if record.offset < end]:
                kept[partition] = before
        return kept

    def _check_alive(self) -> None:
        # A bug or damage that ends aiokafka's background task would otherwise look like a quiet log for ever.
        if self._consumer._fetcher._fetch_task.done():
            raise TransientError("aiokafka has stopped fetching; starting it anew")


@contextlib.contextmanager
def _translated(positions: Mapping[TopicPartition, int], has_archive: bool) -> Iterator[None]:
    try:
        yield
    except OffsetOutOfRangeError as error:
        if has_archive:
            raise TransientError(f"the log begins later now, reading on in the archive: {error}") from error
        raise LogTruncated(f"the log does not hold the next offset any more: {error}") from error
    except (RecordTooLargeError, CorruptRecordException, TopicAuthorizationFailedError) as error:
        raise FatalError(f"the log cannot be read on: {describe(error)}. Positions: {dict(positions)}") from error
    except KafkaError as error:
        raise TransientError(f"cannot read the log: {describe(error)}") from error
