"""Points that come one by one, gathered by series."""

from collections.abc import Iterator

from runtide.importing.records import Points, points

_MOST_OF_ONE = 4_096
_MOST_OF_ALL = 200_000
_BEYOND = 2**63
REFUSED = -1
"""Time of a point that cannot be imported; it is counted where points before 1970 are."""


class SeriesBuffer:
    """Holds a bounded number of points; the order within a series is kept."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._rows: dict[str, list[tuple[int, int, float]]] = {}
        self._count = 0

    def add(self, key: str, step: int, timestamp: int, value: float) -> Iterator[Points]:
        """Take a point, and yield what does not fit any more."""
        if not (-_BEYOND <= step < _BEYOND and timestamp < _BEYOND):
            step, timestamp = 0, REFUSED
        rows = self._rows.setdefault(key, [])
        rows.append((step, timestamp, value))
        self._count += 1
        if len(rows) >= _MOST_OF_ONE:
            self._count -= len(rows)
            yield points(self._stream, key, self._rows.pop(key))
        elif self._count >= _MOST_OF_ALL:
            yield from self.rest()

    def rest(self) -> Iterator[Points]:
        """Yield what is left."""
        taken, self._rows, self._count = self._rows, {}, 0
        for key, rows in taken.items():
            yield points(self._stream, key, rows)
