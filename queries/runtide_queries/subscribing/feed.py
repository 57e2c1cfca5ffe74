"""One topic, read on for ever from given places."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from runtide.kafka import KafkaSettings, describe, explained, new_consumer, stop_consumer
from runtide.schema_registry import registry_for
from runtide_queries.log import LoggedEvent, logged_event, partitions_in
from runtide_queries.past.moments import Span
from runtide_queries.subscribing.places import check_held, find_places
from runtide_schemas.envelope import TYPE_PREFIX
from runtide_schemas.errors import FatalError, TransientError

_FETCH_BYTES = 1024 * 1024
_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events of a topic.

    Attributes:
        start: where to begin, as ``find_places`` reads it.
        types: event types; empty: all.
        subject: a run, model, experiment or endpoint; empty: all.
    """

    topic: str
    start: str
    types: frozenset[str] = frozenset()
    subject: str = ""

    def admits(self, headers: dict[str, bytes | None]) -> bool:
        """Say whether a record with these headers is one of them, without decoding it."""
        if self.subject and headers.get("ce_subject") != self.subject.encode("utf-8", "surrogatepass"):
            return False
        named = (headers.get("ce_type") or b"").decode(errors="replace").removeprefix(TYPE_PREFIX)
        return not self.types or named in self.types


class Feed:
    """Reads the events that are wanted, in each partition's order. One reader at a time.

    Attributes:
        places: next offset of each partition; moves on with what is read, wanted or not.
    """

    def __init__(self, settings: KafkaSettings, wanted: Wanted) -> None:
        self._settings, self._wanted = settings, wanted
        self._consumer = new_consumer(settings, fetch_max_bytes=_FETCH_BYTES, max_partition_fetch_bytes=_FETCH_BYTES)
        self._schemas = registry_for(settings.schema_registry)
        self.places: dict[int, int] = {}

    @classmethod
    async def open(cls, settings: KafkaSettings, wanted: Wanted) -> Self:
        """Return a feed that stands where it is to begin.

        Raises:
            InvalidRequest: it cannot begin there.
            Gone: the log does not hold that any more.
            TransientError: the log is away.
            FatalError: it does not let us in.
        """
        feed = cls(settings, wanted)
        try:
            await feed._consumer.start()
            feed.places = find_places(wanted.topic, wanted.start, await feed._spans())
            feed._assign()
        except BaseException as error:
            await feed.close()
            if isinstance(error, KafkaError | OSError):
                raise await feed._away(error) from error
            raise
        return feed

    async def close(self) -> None:
        """Close the connection."""
        await stop_consumer(self._consumer)

    async def read(self, wait_s: float) -> list[tuple[LoggedEvent, dict[int, int]]]:
        """Return events with the places after each; none when nothing came for ``wait_s``.

        Raises:
            Gone: retention was faster than the reader.
            TransientError, FatalError: as ``open``.
        """
        try:
            batches = await self._consumer.getmany(timeout_ms=int(1000 * wait_s), max_records=_BATCH)
        except OffsetOutOfRangeError as error:
            check_held(
                self._wanted.topic, self.places, {one: span.begin for one, span in (await self._spans()).items()}
            )
            raise TransientError(f"{self._wanted.topic} could not be read on ({describe(error)}); try again") from error
        except (KafkaError, OSError) as error:
            raise await self._away(error) from error
        records = [record for found in batches.values() for record in found]
        await self._schemas.learn([record.value for record in records if self._admits(record)])
        return list(self._events(records))

    async def find_new_partitions(self) -> None:
        """Read partitions from now on that were added to the topic, from their first record; raises as ``read``."""
        try:
            known = {one.partition for one in await partitions_in(self._consumer, self._wanted.topic)}
        except (KafkaError, OSError) as error:
            raise await self._away(error) from error
        if added := known - self.places.keys():
            self.places |= dict.fromkeys(added, 0)
            self._assign()

    def _events(self, records: list[Any]) -> Iterator[tuple[LoggedEvent, dict[int, int]]]:
        for record in records:
            self.places = self.places | {record.partition: record.offset + 1}
            if self._admits(record) and (event := logged_event(record, self._schemas.decoder)) is not None:
                yield event, self.places

    def _admits(self, record: Any) -> bool:
        return self._wanted.admits(dict(record.headers))

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(self._wanted.topic, partition) for partition in self.places])
        for partition, offset in self.places.items():
            self._consumer.seek(TopicPartition(self._wanted.topic, partition), offset)

    async def _spans(self) -> dict[int, Span]:
        partitions = await partitions_in(self._consumer, self._wanted.topic)
        if not partitions:
            raise TransientError(f"the log has no topic {self._wanted.topic} yet; try again when the stack is up")
        begins = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        return {one.partition: Span(begins[one], ends[one]) for one in partitions}

    async def _away(self, error: Exception) -> TransientError | FatalError:
        return await explained(self._settings, f"the log at {self._settings.bootstrap} is away ({describe(error)})")
