"""What a publisher ships: a writer's own spool, or one that it only follows."""

from pathlib import Path
from typing import Protocol

from runtide.spool.limits import SpoolLimits
from runtide.spool.manifest import Manifest
from runtide.spool.owner_state import Delivery
from runtide.spool.segment_format import SpooledEvent


class Shippable(Protocol):
    """``WriterSpool``, which says what each promises, and ``FollowedSpool``, which leaves most of it to the owner."""

    directory: Path
    manifest: Manifest
    limits: SpoolLimits

    @property
    def points_sealed(self) -> int:
        """Points that are in events."""

    @property
    def unacknowledged(self) -> int:
        """Number of events that the broker has not acknowledged."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of events by topic."""

    def acked(self, topic: str) -> int:
        """Return the first number that is not acknowledged."""

    def written(self, topic: str) -> int:
        """Return the number after the last event."""

    def sendable(self, topic: str) -> int:
        """Return the number after the last event that may be sent."""

    def read(self, topic: str, start: int, most_bytes: int, end: int | None = None) -> list[SpooledEvent]:
        """Return the next events."""

    def forget(self, topic: str, below: int) -> None:
        """Drop from memory what was taken."""

    def acknowledge(self, topic: str, next_seq: int) -> None:
        """Note what the broker has."""

    def save_acknowledged(self) -> None:
        """Write that down."""

    def seal(self, wait: float = ..., most_events: int = ...) -> bool:
        """Make points events."""

    def seal_all(self, timeout: float) -> bool:
        """Make all of them events."""

    def maintain(self, delivery: Delivery = ...) -> None:
        """Do the housekeeping."""

    def settle(self) -> None:
        """Sync what is written."""

    def retire(self) -> None:
        """Prepare the end."""
