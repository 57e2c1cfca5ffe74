"""Facts about quarantine, published to runtide.quarantine: what operators decide about parked records.

What each field means stands in the Avro file of the same name under ``avro/``. Who decided is the envelope's actor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EventParked:
    """An event that a projection could not apply, as it came, with the reason and the origin."""

    projection: str
    topic: str
    partition: int
    offset: int
    entity: str = ""
    reason: str
    kind: str
    key: bytes | None = None
    value: bytes | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedReleased:
    """A projection is to try its parked records of an entity again, or one record that belongs to none."""

    projection: str
    entity: str = ""
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    reason: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedDropped:
    """A projection is never to apply a record; what waits behind it goes on without it."""

    projection: str
    topic: str
    partition: int
    offset: int
    entity: str = ""
    reason: str
    at: int
