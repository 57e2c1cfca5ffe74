"""Events parked by a projection, published to runtide.quarantine.

What each field means stands in the Avro file of the same name under ``avro/``.
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
