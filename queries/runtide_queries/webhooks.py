"""Webhooks as they are registered; their secrets are encrypted, and leave the gateway in no other form."""

import json
from dataclasses import dataclass
from typing import Any, Self

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound

MAX_PAGE_SIZE = 1_000
_SCOPE = "webhooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook; ``events`` are ENTITY.ACTION, times Unix milliseconds."""

    webhook_id: str
    name: str
    url: str
    events: tuple[str, ...]
    description: str
    secret: str
    status: str
    created_at: int
    updated_at: int

    @classmethod
    def of(cls, row: Any) -> Self:
        """Return the webhook of a record."""
        return cls(**{**row, "events": tuple(json.loads(row["events"]))})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPage:
    """Webhooks, the newest first; ``next_page_token`` is empty on the last page."""

    webhooks: tuple[Webhook, ...]
    next_page_token: str


async def get_webhook(postgres: Postgres, webhook_id: str) -> Webhook:
    """Return a webhook.

    Raises:
        NotFound: there is none of that id, or it was deleted.
    """
    row = await postgres.row(load("webhooks")["get_webhook"], webhook_id=webhook_id)
    if row is None:
        raise NotFound(f"Webhook with ID {webhook_id[:80]} not found.")
    return Webhook.of(row)


async def list_webhooks(postgres: Postgres, *, page_size: int = 100, page_token: str = "") -> WebhookPage:
    """Return a page of webhooks."""
    check_page_size(page_size)
    created_at, webhook_id = decode_token(_SCOPE, page_token, [int, str]) if page_token else (2**62, "")
    rows = await postgres.rows(
        load("webhooks")["list_webhooks"], created_at=created_at, webhook_id=webhook_id, page_size=page_size + 1
    )
    webhooks = tuple(map(Webhook.of, rows[:page_size]))
    last = webhooks[-1] if len(rows) > page_size else None
    token = encode_token(_SCOPE, [last.created_at, last.webhook_id]) if last else ""
    return WebhookPage(webhooks=webhooks, next_page_token=token)
