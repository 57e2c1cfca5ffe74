"""How much disk and memory a spool may take, and what happens at the bounds."""

from dataclasses import dataclass
from typing import Literal

Policy = Literal["block", "drop"]
CACHED_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """The bounds of one writer's spool.

    Attributes:
        most_bytes: disk that segments and tails may take.
        policy: ``block`` lets a call wait for room, ``drop`` lets it go at once; what does not fit is dropped, counted
            and warned of.
        wait: seconds that ``block`` waits; once it was in vain, calls do not wait again until there is room.
        in_flight_bytes: events that are on their way to the broker.
        cached_bytes: events of a topic that are kept in memory behind them; the others are read from the disk again.
    """

    most_bytes: int = 4 * 1024**3
    policy: Policy = "block"
    wait: float = 5.0
    in_flight_bytes: int = 16 * 1024**2
    cached_bytes: int = CACHED_BYTES
