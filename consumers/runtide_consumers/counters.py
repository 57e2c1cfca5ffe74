"""What a projector has done, in numbers: kept in one place, for the log and for whoever exports them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtide_consumers.projection import TopicPartition


@dataclass(slots=True)
class Counters:
    """Totals since the process started, and where it stands.

    Attributes:
        events: events applied.
        bytes: bytes of the records read, keys and values.
        batches: transactions committed.
        parked: records put into quarantine.
        retries: times that a store or the broker was away.
        lag: offsets that the log is ahead of the store, by partition.
    """

    events: int = 0
    bytes: int = 0
    batches: int = 0
    parked: int = 0
    retries: int = 0
    lag: Mapping[TopicPartition, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.events} events in {self.batches} batches ({self.bytes / 1e6:.1f} MB), "
            f"{self.parked} parked, {self.retries} retries, lag {sum(self.lag.values())}"
        )
