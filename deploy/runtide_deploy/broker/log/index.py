"""The sparse index of one segment: offset and timestamp to byte position. A cache: a scan rebuilds it."""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

INDEX_INTERVAL_BYTES: Final = 32 * 1024
"""One entry per so many bytes: what a lookup has to walk at most, batch by batch."""
NO_TIMESTAMP: Final = -1


class SparseIndex:
    """Parallel columns: a batch's base offset, its position, and the highest timestamp of all batches before it."""

    def __init__(self) -> None:
        self._offsets = array("q")
        self._positions = array("q")
        self._timestamps_before = array("q")

    def __len__(self) -> int:
        return len(self._offsets)

    def note(self, base_offset: int, position: int, timestamp_before: int) -> None:
        """Take in a batch; only one in ``INDEX_INTERVAL_BYTES`` is kept."""
        if self._positions and position - self._positions[-1] < INDEX_INTERVAL_BYTES:
            return
        self._offsets.append(base_offset)
        self._positions.append(position)
        self._timestamps_before.append(timestamp_before)

    def position_at_or_before(self, offset: int) -> int:
        """Return where a walk that looks for ``offset`` may start."""
        slot = bisect_right(self._offsets, offset) - 1
        return self._positions[slot] if slot >= 0 else 0

    def position_before_timestamp(self, timestamp: int) -> int:
        """Return where a walk may start that looks for the first batch reaching ``timestamp``."""
        slot = bisect_left(self._timestamps_before, timestamp) - 1
        return self._positions[slot] if slot >= 0 else 0

    def columns(self) -> list[list[int]]:
        """Return the three columns as JSON values."""
        return [self._offsets.tolist(), self._positions.tolist(), self._timestamps_before.tolist()]

    @classmethod
    def from_columns(cls, columns: list[list[int]]) -> "SparseIndex":
        """Return the index that ``columns`` was taken from."""
        index = cls()
        index._offsets, index._positions, index._timestamps_before = (array("q", column) for column in columns)
        return index
