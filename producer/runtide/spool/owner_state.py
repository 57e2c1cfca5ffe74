"""What a spool's owner tells those who look at it from outside: what is on its disk, and whether it sends."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from runtide.spool.note import Note, read_note

log = logging.getLogger(__name__)

FILE = "state"
Delivery = Literal["unknown", "none", "works", "fails"]
"""``none``: no broker is configured; ``fails``: one is, and is away or does not let us in."""
_DELIVERIES = {"unknown", "none", "works", "fails"}
_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class OwnerState:
    """What an owner said last.

    Attributes:
        durable: per topic the number after the last event that is on the disk itself and so never changes.
        delivery: whether the owner sends by itself.
        told: False when there is nothing: an older version owns it, or its owner has just begun.
    """

    durable: Mapping[str, int] = field(default_factory=dict)
    delivery: Delivery = "unknown"
    told: bool = False


class StateNote:
    """The owner's side: writes what has changed, at most once a second."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._note = Note(directory / FILE)
        self._written: dict[str, Any] = {}
        self._again_at = 0.0
        self._troubled = False

    def tell(self, durable: Mapping[str, int], delivery: Delivery, at_once: bool = False) -> None:
        """Write it down. A failure only delays it, and is said once: delivery must not wait for a full disk.

        The events must be on the disk before: this is not synced, so it may come there at any time.
        """
        if time.monotonic() < self._again_at and not at_once:
            return
        fields = {"durable": dict(durable), "delivery": delivery}
        if fields == self._written:
            return
        self._again_at = time.monotonic() + _EVERY_S
        try:
            self._note.write(fields)
            self._written, self._troubled = fields, False
        except OSError as error:
            if not self._troubled:
                log.warning(
                    "cannot write %s in %s: %s. Who follows this spool waits for it", FILE, self._directory, error
                )
            self._troubled = True

    def close(self) -> None:
        """Close the file."""
        self._note.close()


def read_state(directory: Path) -> OwnerState:
    """Return what a spool's owner said last; of what cannot be read nothing counts as durable."""
    fields = read_note(directory / FILE)
    durable, delivery = fields.get("durable"), fields.get("delivery")
    if not isinstance(durable, dict) or delivery not in _DELIVERIES:
        return OwnerState()
    numbers = {str(topic): seq for topic, seq in durable.items() if isinstance(seq, int)}
    return OwnerState(numbers, cast("Delivery", delivery), told=True)
