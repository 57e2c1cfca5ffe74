"""What is to be told to whom: a fold of the catalogue. No I/O; belongs to whoever folds."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from runtide.webhooks import Told, told_by
from runtide.webhooks.payloads import PROMPT_TAG
from runtide_consumers.answers import is_news
from runtide_schemas.events.catalog import (
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelRenamed,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
    WebhookCreated,
    WebhookDeleted,
    WebhookUpdated,
)

log = logging.getLogger(__name__)

MOST_WAITING = 1_000
"""Facts that wait for one webhook in memory; what comes after them is read from the log again when they are told."""
_SPACE = UUID("6f0ad8d4-6f0c-5b0e-9a53-3c5b1f2d7a10")


@dataclass(frozen=True, slots=True)
class Item:
    """Something to tell.

    Attributes:
        offset: of the fact in the catalogue.
        number: which of the things that the fact has to tell.
        at: when it happened, Unix milliseconds.
    """

    offset: int
    number: int
    told: Told
    at: int

    def delivery_id(self, webhook_id: str) -> str:
        """Return the id of its delivery, which is the same however often it is made."""
        return str(uuid5(_SPACE, f"{webhook_id}/{self.offset}/{self.number}"))


@dataclass(slots=True)
class Subscriber:
    """A webhook, and what it has not been told yet, in order.

    Attributes:
        secret: encrypted.
        next_offset: it needs nothing before this one.
        behind: more than what waits is to be told; it stands in the log.
    """

    webhook_id: str
    url: str
    events: frozenset[str]
    secret: str
    active: bool
    next_offset: int
    waiting: deque[Item] = field(default_factory=deque)
    behind: bool = False

    def add(self, items: Sequence[Item]) -> None:
        """Add what one fact has to tell, as long as there is room: what follows something left out is left out, too."""
        if not self.behind and len(self.waiting) >= MOST_WAITING:
            self.behind = True
            log.warning(
                "webhook %s does not keep up: %d deliveries wait; what happens from catalogue record %d on is told after them",
                self.webhook_id,
                len(self.waiting),
                items[0].offset,
            )
        if not self.behind:
            self.waiting.extend(items)


class Subscribers:
    """Who is to be told of what. Facts are folded in the order of the log."""

    def __init__(self, begun: int, positions: Mapping[str, int]) -> None:
        """``begun``: nothing before this offset is told; ``positions``: nor what a webhook was told before."""
        self.by_id: dict[str, Subscriber] = {}
        self.gone: set[str] = set()
        """Webhooks that were deleted since somebody looked."""
        self._begun = begun
        self._positions = positions
        self._prompts: set[str] = set()
        self._last_request = -1

    def fold(self, offset: int, fact: Any) -> None:
        """Take in the fact at an offset."""
        if not is_news(fact, self._last_request):
            return
        self._last_request = fact.answer.request_offset
        self._fold_prompts(fact)
        if isinstance(fact, WebhookCreated | WebhookUpdated):
            self._state(offset, fact)
        elif isinstance(fact, WebhookDeleted):
            self.by_id.pop(fact.webhook_id, None)
            self.gone.add(fact.webhook_id)
        else:
            told = told_by(fact, self._prompts.__contains__)
            self._tell(offset, [Item(offset, number, each, fact.at) for number, each in enumerate(told)])

    def emptied(self) -> bool:
        """Say whether somebody was told all that waited, and more stands in the log."""
        return any(one.behind and not one.waiting for one in self.by_id.values())

    def begun_again(self) -> "Subscribers":
        """Return an empty fold, which is to be brought to the place of this one and given to ``refill``."""
        return Subscribers(self._begun, {one.webhook_id: one.next_offset for one in self.by_id.values()})

    def refill(self, again: "Subscribers") -> None:
        """Take over what waits for those that have nothing waiting and more to be told; deliveries went on meanwhile."""
        for one in self.by_id.values():
            if one.behind and not one.waiting:
                other = again.by_id[one.webhook_id]
                one.waiting = deque(item for item in other.waiting if item.offset >= one.next_offset)
                one.behind = other.behind

    def _tell(self, offset: int, items: Sequence[Item]) -> None:
        for one in self.by_id.values():
            asked = [item for item in items if item.told.event in one.events]
            if asked and one.active and offset >= max(one.next_offset, self._begun):
                one.add(asked)

    def _state(self, offset: int, fact: WebhookCreated | WebhookUpdated) -> None:
        known = self.by_id.get(fact.webhook_id)
        if known is None:
            begins = self._positions.get(fact.webhook_id, offset + 1)
            known = Subscriber(fact.webhook_id, "", frozenset(), "", False, begins)
            self.by_id[fact.webhook_id] = known
        known.url, known.events, known.secret = fact.url, frozenset(fact.events), fact.secret
        known.active = fact.status == "ACTIVE"

    def _fold_prompts(self, fact: Any) -> None:
        """A prompt's version has a tag of its own, but what happens to prompts later is told by name alone."""
        if isinstance(fact, RegisteredModelCreated | RegisteredModelTagsSet) and PROMPT_TAG in fact.tags:
            self._mark(fact.name, fact.tags[PROMPT_TAG].lower() == "true")
        elif isinstance(fact, RegisteredModelDeleted | RegisteredModelTagsDeleted):
            if PROMPT_TAG in getattr(fact, "keys", (PROMPT_TAG,)):
                self._mark(fact.name, False)
        elif isinstance(fact, RegisteredModelRenamed):
            self._mark(fact.name, fact.previous_name in self._prompts)
            if fact.name != fact.previous_name:
                self._mark(fact.previous_name, False)

    def _mark(self, name: str, prompt: bool) -> None:
        (self._prompts.add if prompt else self._prompts.discard)(name)
