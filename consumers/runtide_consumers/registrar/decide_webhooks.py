"""Decisions about webhooks (MLflow: ``entities/webhook.py``, ``utils/validation.py``): whom to tell of what.

Whether an address may be reached at all is for the gateway to say, and for whoever delivers: names point elsewhere tomorrow.
"""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from runtide_consumers.registrar.state import Catalogue, Decision
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.catalog import Answer, WebhookCreated, WebhookDeleted, WebhookUpdated
from runtide_schemas.events.requests import CreateWebhook, DeleteWebhook, UpdateWebhook
from runtide_schemas.limits import check_text

EVENTS = frozenset({
    "registered_model.created", "model_version.created",
    "model_version_tag.set", "model_version_tag.deleted", "model_version_alias.created", "model_version_alias.deleted",
    "prompt.created", "prompt_version.created", "prompt_tag.set", "prompt_tag.deleted",
    "prompt_version_tag.set", "prompt_version_tag.deleted", "prompt_alias.created", "prompt_alias.deleted",
    "budget_policy.exceeded",
})  # fmt: skip
"""What MLflow's webhooks may ask for. Budgets of its AI gateway are nothing that happens here."""
_STATUSES = ("ACTIVE", "DISABLED")
_ID = re.compile(r"[0-9a-f-]{36}\Z")
_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z", re.IGNORECASE)
_LONGEST_URL, _LONGEST_DESCRIPTION, _LONGEST_SECRET = 500, 1_000, 4_000


def create_webhook(state: Catalogue, request: CreateWebhook, answer: Answer, at: int) -> Any:
    """Any number of them, also of one name."""
    if not _ID.match(request.webhook_id) or request.webhook_id in state.webhooks:
        raise InvalidRequest(f"Webhook ID {request.webhook_id[:80]!r} is taken, or no UUID; make a new one")
    return _checked(
        WebhookCreated(
            answer=answer,
            webhook_id=request.webhook_id,
            name=request.name,
            url=request.url,
            events=tuple(dict.fromkeys(request.events)),
            description=request.description,
            secret=request.secret,
            status=request.status,
            at=at,
        )
    )


def update_webhook(state: Catalogue, request: UpdateWebhook, answer: Answer, at: int) -> Any:
    """What is given is changed."""
    webhook = state.webhook(request.webhook_id)
    changes: dict[str, Any] = {
        name: value
        for name in ("name", "url", "description", "secret", "status")
        if (value := getattr(request, name)) is not None
    }
    if request.events:
        changes["events"] = tuple(dict.fromkeys(request.events))
    return _checked(replace(webhook, **changes, answer=answer, at=at))


def delete_webhook(state: Catalogue, request: DeleteWebhook, answer: Answer, at: int) -> Any:
    """Once."""
    state.webhook(request.webhook_id)
    return WebhookDeleted(answer=answer, webhook_id=request.webhook_id, at=at)


def _checked(fact: WebhookCreated | WebhookUpdated) -> WebhookCreated | WebhookUpdated:
    if not _NAME.match(fact.name):
        raise InvalidRequest(
            f"Webhook name {fact.name[:200]!r} is invalid. It must start and end with a letter or digit, be less than 63 "
            "characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
        )
    _check_url(check_text(fact.url, "Webhook URL", _LONGEST_URL))
    if not fact.events:
        raise InvalidRequest("Webhook events must be a non-empty list of WebhookEvent objects: [].")
    if unknown := [one[:80] for one in fact.events if one not in EVENTS]:
        raise InvalidRequest(
            f"Unknown webhook events: {', '.join(unknown[:5])}. Known are: {', '.join(sorted(EVENTS))}"
        )
    if fact.status not in _STATUSES:
        raise InvalidRequest(f"Webhook status must be one of {', '.join(_STATUSES)}, got {fact.status[:80]!r}")
    check_text(fact.description, "Webhook description", _LONGEST_DESCRIPTION)
    check_text(fact.secret, "Webhook secret", _LONGEST_SECRET)
    return fact


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest(f"Invalid webhook URL {url!r}: {error!r}") from error
    if parts.scheme not in {"http", "https"}:
        raise InvalidRequest(f"Invalid webhook URL scheme: {parts.scheme!r}. Allowed schemes are: https.")
    if not host or not url.isprintable() or " " in url:
        raise InvalidRequest(f"Webhook URL must include a hostname: {url!r}")


DECISIONS: dict[type, Decision] = {
    CreateWebhook: create_webhook,
    UpdateWebhook: update_webhook,
    DeleteWebhook: delete_webhook,
}
