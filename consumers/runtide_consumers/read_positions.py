"""How far a reader is in each partition, and how far what it has handed over is from the log's end."""

from collections.abc import Iterable, Mapping

from runtide_consumers.projection import TopicPartition


class ReadPositions:
    """Offsets of every partition of a reader. Belongs to it.

    Attributes:
        starts: where reading began.
        ends: where the log ended then, or where reading is to end.
        until: ``ends``, when reading is to end there.
        handed: what follows the last record that was handed over.
        now: that, or what follows offsets without records behind it.
        asked: ends that the broker was asked for since.
    """

    def __init__(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], *, stops: bool
    ) -> None:
        self.starts = dict(starts)
        self.ends = dict(ends)
        self.until = self.ends if stops else None
        self.handed = dict(starts)
        self.now = dict(starts)
        self.asked: dict[TopicPartition, int] = {}

    def move(self, partition: TopicPartition, offset: int) -> None:
        """Go on behind what was handed over."""
        self.handed[partition] = self.now[partition] = offset

    def is_over(self, partition: TopicPartition) -> bool:
        """Return whether a partition is read as far as it is to be read."""
        return self.until is not None and self.now[partition] >= self.until[partition]

    def at_end(self, partitions: Iterable[TopicPartition]) -> bool:
        """Return whether these are read up to the end that they had at first."""
        return all(self.now[partition] >= self.ends[partition] for partition in partitions)

    def so_far(self) -> tuple[int, int]:
        """Return how many offsets were read of those that lay before the end that the log had at first, and how many these are."""
        read = sum(min(self.now[partition], end) - self.starts[partition] for partition, end in self.ends.items())
        return read, sum(end - self.starts[partition] for partition, end in self.ends.items())

    def reached(self, applied: Mapping[TopicPartition, int]) -> bool:
        """Return whether ``applied`` is at or past the last records that the log had at first."""
        return all(self._passed(partition, applied) >= end for partition, end in self.ends.items())

    def lag(
        self, applied: Mapping[TopicPartition, int], heard: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return per partition how many offsets the log is ahead of ``applied``; ``heard``: ends told with records."""
        return {
            partition: max(0, self._end_of(partition, heard.get(partition, 0)) - self._passed(partition, applied))
            for partition in self.now
        }

    def _passed(self, partition: TopicPartition, applied: Mapping[TopicPartition, int]) -> int:
        """Return where ``applied`` stands once offsets that no record has (lost, compacted) count as applied."""
        offset = applied.get(partition, 0)
        return max(offset, self.now[partition]) if offset >= self.handed[partition] else offset

    def _end_of(self, partition: TopicPartition, heard: int) -> int:
        if self.until is not None:
            return self.until[partition]
        return max(self.ends[partition], self.asked.get(partition, 0), self.now[partition], heard)
