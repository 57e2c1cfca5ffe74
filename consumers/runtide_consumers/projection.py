"""What a projection is: a fold of the log into a store that also keeps its own positions.

The projector (``projector.py``) reads the log and hands batches over; a projection applies each batch together with the
positions it leads to, in one transaction of its store. Whoever implements ``Projection`` gets offsets, fencing,
quarantine and exactly-once effect by keeping the promises written at each method.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, Self

from runtide_schemas.envelope import Envelope


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Place(NamedTuple):
    """One record of the log."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the log a record stands.

    Attributes:
        topic: its topic.
        partition: its partition.
        offset: its offset there.
        timestamp_ms: time of the record as the log has it, Unix milliseconds.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition it stands in."""
        return TopicPartition(self.topic, self.partition)

    @property
    def place(self) -> Place:
        """The record it is."""
        return Place(self.topic, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded and valid event: ``body`` is one of the dataclasses of ``runtide_schemas.events``."""

    origin: Origin
    envelope: Envelope
    body: Any


class ParkedKind(StrEnum):
    """Why an event is parked."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID = "invalid"
    FAILED = "failed"
    """Folding it raised what nobody foresaw."""
    BEHIND = "behind"
    DROPPED = "dropped"
    """Given up by an operator: it is never applied, and nothing waits behind it."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that cannot be applied, as it came, or one that waits behind such a record of the same entity.

    Attributes:
        origin: where it stands in the log.
        key: record key.
        value: record value.
        headers: record headers, in their order.
        entity: run, model … whose later events wait behind it; empty when unknown: then nothing waits.
        kind: a ``ParkedKind``.
        reason: what was wrong, for people.
    """

    origin: Origin
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    entity: str
    kind: str
    reason: str

    def headers_json(self) -> bytes:
        """Return the headers as JSON: a list of ``[name, base64 of the value or null]``, in their order."""
        pairs = [[name, None if value is None else base64.b64encode(value).decode()] for name, value in self.headers]
        return json.dumps(pairs).encode()

    def as_row(self) -> dict[str, Any]:
        """Return the row of a store's table ``quarantine``, columns in their order."""
        return {
            "topic": self.origin.topic,
            "partition": self.origin.partition,
            "record_offset": self.origin.offset,
            "entity": self.entity,
            "kind": str(self.kind),
            "reason": self.reason,
            "key": self.key,
            "value": self.value,
            "headers": self.headers_json(),
            "parked_at": self.origin.timestamp_ms,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return what ``as_row`` was made from."""
        pairs = json.loads(row["headers"])
        return cls(
            origin=Origin(row["topic"], row["partition"], row["record_offset"], row["parked_at"]),
            key=row["key"],
            value=row["value"],
            headers=tuple((name, None if value is None else base64.b64decode(value)) for name, value in pairs),
            entity=row["entity"],
            kind=row["kind"],
            reason=row["reason"],
        )


class Drop(NamedTuple):
    """Why a record is never applied, and the entity that it was parked for."""

    entity: str
    reason: str


class ParkedChunk(NamedTuple):
    """Parked records in the order of topic, partition and offset, and whether there are more behind them."""

    records: Sequence[Parked]
    more: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction of a projection has to do.

    Attributes:
        events: events to apply; those of one partition stand in their order in the log.
        parked: records to put into quarantine, in place of what is there of the same record.
        positions: next offset to read after this batch, of every partition that the batch touches.
        begins: offset that the batch starts from, of the same partitions. A store whose position differs must not apply it.
        released: records to take out of quarantine: those of ``events`` that were parked.
    """

    events: tuple[Event, ...] = ()
    parked: tuple[Parked, ...] = ()
    positions: Mapping[TopicPartition, int] = field(default_factory=dict)
    begins: Mapping[TopicPartition, int] = field(default_factory=dict)
    released: tuple[Place, ...] = ()


class Projection(Protocol):
    """A fold of the log into a store."""

    @property
    def name(self) -> str:
        """Name for logs, metrics and ``EventParked.projection``."""

    @property
    def topics(self) -> frozenset[str]:
        """Topics that it folds."""

    async def open(self) -> None:
        """Create or verify the store's layout and take over: whoever had it open before is fenced from now on.

        Raises:
            TransientError: the store is away.
            FatalError: the store is of another version, or of something else.
        """

    async def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to read of every partition it has read from; a missing one means 0.

        Raises:
            TransientError: the store is away.
        """

    async def blocked(self) -> frozenset[str]:
        """Return the entities that have parked records: their later events wait. Dropped ones do not count."""

    async def dropped(self) -> Mapping[Place, Drop]:
        """Return the records that are kept as ``ParkedKind.DROPPED``: they are never applied."""

    async def parked(self, entity: str, most: int, most_bytes: int) -> ParkedChunk:
        """Return the first parked records of an entity, dropped ones left out.

        Args:
            entity: the entity.
            most: most records to return.
            most_bytes: no further record is returned once their values have so many bytes.
        """

    async def parked_at(self, place: Place) -> Parked | None:
        """Return the parked or dropped record of that place, None when there is none."""

    async def apply(self, batch: Batch) -> None:
        """Apply events, quarantine and positions in one transaction, or none of them.

        An empty batch comes now and then while the log is quiet: it only finds out whether the store is still ours.

        Raises:
            PoisonEvent: an event of the batch can never be applied; the projector finds out which and parks it.
            TransientError: the store is away, or the outcome of the commit is unknown; nothing may be assumed.
            Fenced: another process has taken over.
        """

    async def close(self) -> None:
        """Let go of the store; never raises for a store that is away."""
