"""What is to be told to whom: a fold of the catalogue. No I/O; belongs to whoever folds."""

from collections import deque
from collections.abc import Mapping
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
    """A webhook, and what it has not been told yet, in order. ``secret`` is encrypted."""

    webhook_id: str
    url: str
    events: frozenset[str]
    secret: str
    active: bool
    next_offset: int
    waiting: deque[Item] = field(default_factory=deque)


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
            for number, told in enumerate(told_by(fact, self._prompts.__contains__)):
                self._tell(Item(offset, number, told, fact.at))

    def _tell(self, item: Item) -> None:
        for one in self.by_id.values():
            if one.active and item.told.event in one.events and item.offset >= max(one.next_offset, self._begun):
                one.waiting.append(item)

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
