"""Which records go into quarantine, and when there are too many of them."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from runtide_consumers.decoding import entities_of, park
from runtide_consumers.projection import Drop, Event, Parked, ParkedKind, Place
from runtide_schemas.errors import FatalError

Item = tuple[Any, Event | Parked]
"""A Kafka record and what was decoded from it."""


@dataclass(frozen=True, slots=True)
class ParkingLimits:
    """How much may be parked before a projector stops: a bad deploy must not empty the log into quarantine.

    Attributes:
        share: share of the last ``window`` records that may be parked for reasons of their own; waiting behind another
            record does not count.
        window: number of records that the share is taken of.
        floor: fewer parked records than this never stop it.
    """

    share: float = 0.5
    window: int = 1_000
    floor: int = 50


class ParkingGuard:
    """Stops a projector that parks too much of what it reads."""

    def __init__(self, limits: ParkingLimits) -> None:
        self._limits = limits
        self._recent: deque[bool] = deque(maxlen=limits.window)
        self._reasons: Counter[str] = Counter()

    def note(self, parked: Iterable[bool]) -> None:
        """Take note of records, in order: True for one that is parked for a reason of its own."""
        self._recent.extend(parked)

    def turned_out_bad(self) -> None:
        """Take note that a record is parked after all that was noted as good."""
        for place in reversed(range(len(self._recent))):
            if not self._recent[place]:
                self._recent[place] = True
                return

    def check(self, reasons: Iterable[str]) -> None:
        """Add the reasons of newly parked records.

        Raises:
            FatalError: more than the set share of the last records is parked.
        """
        self._reasons.update(reason[:200] for reason in reasons)
        parked = sum(self._recent)
        if parked < self._limits.floor or parked <= self._limits.share * len(self._recent):
            return
        reason, times = self._reasons.most_common(1)[0]
        raise FatalError(
            f"{parked} of the last {len(self._recent)} records could not be applied, most often ({times}): {reason}. "
            "Stopped before the log is emptied into quarantine: fix the cause, or allow a larger share "
            f"(RUNTIDE_PARKING_SHARE or --parking-share, now {self._limits.share:g})"
        )


def sort_items(
    items: Sequence[Item], blocked: AbstractSet[str], dropped: Mapping[Place, Drop] = MappingProxyType({})
) -> tuple[tuple[Event, ...], tuple[Parked, ...], frozenset[str]]:
    """Return the events to apply, the records to park, and the entities that are blocked afterwards.

    An event of an entity that is blocked, or becomes so earlier in ``items``, is parked behind. One of ``dropped`` is
    kept as such, whatever it is.
    """
    now_blocked = set(blocked)
    events: list[Event] = []
    parked: list[Parked] = []
    for record, outcome in items:
        if dropped and (drop := dropped.get(outcome.origin.place)):
            parked.append(park(record, ParkedKind.DROPPED, drop.reason, drop.entity))
        elif isinstance(outcome, Parked):
            parked.append(outcome)
            now_blocked |= {outcome.entity} - {""}
        elif entity := waits_for(record, now_blocked):
            reason = f"waits behind a parked record of {entity}"
            parked.append(park(record, ParkedKind.BEHIND, reason, entity))
        else:
            events.append(outcome)
    return tuple(events), tuple(parked), frozenset(now_blocked)


def waits_for(record: Any, blocked: AbstractSet[str]) -> str:
    """Return the blocked entity that a record has to wait for, or "" when it need not wait."""
    if not blocked:
        return ""
    return next((entity for entity in entities_of(record) if entity in blocked), "")
