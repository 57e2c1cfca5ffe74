"""What a rebuild tells of itself while it works."""

import logging
import time
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a fold has come.

    Attributes:
        done: events folded.
        total: events to fold, those done included.
        rate: events per second, of this process.
        seconds_left: how long the rest takes at this rate; None before there is one.
    """

    done: int
    total: int
    rate: float
    seconds_left: float | None


class Watch(Protocol):
    """Who is told."""

    def step(self, text: str) -> None:
        """A step begins, or has an outcome."""

    def pace(self, pace: Pace) -> None:
        """Events were folded; a few times per second."""


class LogWatch:
    """Tells the log, the pace every ten seconds: supervisors count on that line."""

    def __init__(self) -> None:
        self._due = 0.0

    def step(self, text: str) -> None:
        """Log a step."""
        log.info("%s", text)

    def pace(self, pace: Pace) -> None:
        """Log the pace now and then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_S
            left = "" if pace.seconds_left is None else f", {pace.seconds_left:.0f} s left"
            log.info("%d of %d events, %.0f/s%s", pace.done, pace.total, pace.rate, left)
