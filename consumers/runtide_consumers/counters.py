"""What a projector has done, in numbers: kept in one place, for the log and for whoever exports them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runtide_consumers.projection import TopicPartition

ObserveBatch = Callable[[int, float], None]
"""Called with a transaction's events and seconds."""


def _unobserved(events: int, seconds: float) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Counters:
    """Totals since the process started, and where it stands.

    Attributes:
        events: events applied.
        bytes: bytes of the records read, keys and values.
        batches: transactions committed.
        parked: records put into quarantine.
        retries: times that a store or the broker was away.
        records: records read.
        lag: offsets that the log is ahead of the store, by partition.
        applied_at: time of the last record that was applied (Unix milliseconds, as the log has it), by partition.
        observe_batch: hears of each transaction.
    """

    events: int = 0
    bytes: int = 0
    batches: int = 0
    parked: int = 0
    retries: int = 0
    records: int = 0
    lag: Mapping[TopicPartition, int] = field(default_factory=dict)
    applied_at: dict[TopicPartition, int] = field(default_factory=dict)
    observe_batch: ObserveBatch = _unobserved

    @property
    def mean_bytes(self) -> float:
        """Mean size of the records read."""
        return self.bytes / self.records if self.records else 0.0

    def lag_seconds(self) -> dict[TopicPartition, float]:
        """Return how old the last applied record is where the log is ahead, and 0 where it is not.

        The next record is not older than that; where none was applied yet since the process started, nothing is said.
        """
        now, applied_at = 1000 * time.time(), dict(self.applied_at)
        return {
            partition: max(0.0, now - applied_at[partition]) / 1000 if events else 0.0
            for partition, events in self.lag.items()
            if partition in applied_at or not events
        }

    def __str__(self) -> str:
        return (
            f"{self.events} events in {self.batches} batches ({self.bytes / 1e6:.1f} MB), "
            f"{self.parked} parked, {self.retries} retries, lag {sum(self.lag.values())}"
        )
