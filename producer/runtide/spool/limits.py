"""How much disk a spool may take, and what happens at the bound."""

from dataclasses import dataclass
from typing import Literal

Policy = Literal["block", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """The bound of one writer's spool.

    Attributes:
        most_bytes: disk that segments and tails may take.
        policy: ``block`` lets a call wait for room, ``drop`` lets it go at once; what does not fit is dropped, counted
            and warned of.
        wait: seconds that ``block`` waits; once it was in vain, calls do not wait again until there is room.
    """

    most_bytes: int = 4 * 1024**3
    policy: Policy = "block"
    wait: float = 5.0
