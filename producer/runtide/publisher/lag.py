"""How far delivery is behind, and who is told."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from runtide.messages import say


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """What of a writer the broker has not acknowledged yet.

    Attributes:
        points: metric points. What was logged in the last few hundredths of a second may not be counted.
        events: events that hold those points, and all others.
        oldest_seconds: age of the oldest of these events; 0 when there are none.
        acknowledged_events: events that the broker has.
        trouble: why delivery fails at the moment; empty while it works.
    """

    points: int
    events: int
    oldest_seconds: float
    acknowledged_events: int
    trouble: str = ""


LagCallback = Callable[[Lag], object]


class LagWatch:
    """Tells one callback, at most every so often. Belongs to the publisher's thread."""

    def __init__(self, callback: LagCallback, every: float) -> None:
        self._callback = callback
        self._every = every
        self._next = 0.0
        self._told: tuple[int, int] | None = None
        self._failed = False

    @property
    def due(self) -> bool:
        """True when it is time to tell again."""
        return time.monotonic() >= self._next

    def tell(self, lag: Lag) -> None:
        """Call back, unless nothing is outstanding and nothing has changed. What the callback raises is said once."""
        self._next = time.monotonic() + self._every
        now = (lag.events, lag.acknowledged_events)
        if not lag.events and now == self._told:
            return
        self._told = now
        try:
            self._callback(lag)
        except Exception as error:  # noqa: BLE001 - a user's callback must not end delivery
            if not self._failed:
                self._failed = True
                say(f"the on_delivery callback failed ({type(error).__name__}: {error}); it is called again, silently")
