"""Webhooks: registered here by the registrar's decision, delivered by a process of their own. Secrets go in and never out."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi import Request
from starlette.responses import Response

from runtide.webhooks import EXAMPLES, Delivery, DeliveryFailed, Seal, Told, WebhookSettings, check_destination
from runtide.webhooks.sending import exchange
from runtide_queries.server.answers import Json
from runtide_queries.server.mlflow.calls import Call, Fields, call_routes
from runtide_queries.server.mlflow.entities import given
from runtide_queries.server.policy import Policy, Route
from runtide_queries.webhooks import MAX_PAGE_SIZE, Webhook, get_webhook, list_webhooks
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.events.catalog import WebhookCreated
from runtide_schemas.events.requests import CreateWebhook, DeleteWebhook, UpdateWebhook
from runtide_schemas.identity import now_ms
from runtide_schemas.limits import check_text

_LONGEST_SECRET = 1_000
_LONGEST_ANSWER = 10_000
_STATUSES = {"ACTIVE": "ACTIVE", "DISABLED": "DISABLED"}


async def create(call: Call) -> Any:
    """Register a webhook."""
    settings = WebhookSettings()
    url = await _checked_url(call.text("url", required=True), settings)
    request = CreateWebhook(
        webhook_id=str(uuid4()),
        name=call.text("name", required=True),
        url=url,
        events=_events(call, required=True),
        description=call.text("description"),
        secret=_sealed(call.text("secret"), settings),
        status=call.choice("status", _STATUSES, "ACTIVE"),
    )
    return {"webhook": _shown(_created(await call.stores.commands.ask(request, actor=call.actor)))}


async def list_all(call: Call) -> Any:
    """List webhooks, the newest first."""
    size = call.integer("max_results") or 100
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise InvalidRequest(f"max_results must be between 1 and {MAX_PAGE_SIZE}.")
    await call.stores.fresh.catalogue()
    page = await list_webhooks(call.stores.postgres, page_size=size, page_token=call.text("page_token"))
    return given(webhooks=[_shown(one) for one in page.webhooks], next_page_token=page.next_page_token or None)


async def get(call: Call) -> Any:
    """Give a webhook."""
    return {"webhook": _shown(await _known(call))}


async def update(call: Call) -> Any:
    """Change what is given of a webhook."""
    settings, url, secret = WebhookSettings(), call.text("url"), call.optional_text("secret")
    request = UpdateWebhook(
        webhook_id=call.path["webhook_id"],
        name=call.text("name") or None,
        url=await _checked_url(url, settings) if url else None,
        events=_events(call),
        description=call.optional_text("description"),
        secret=None if secret is None else _sealed(secret, settings),
        status=call.choice("status", _STATUSES, None),
    )
    await call.stores.commands.ask(request, actor=call.actor)
    return {"webhook": _shown(await _known(call))}


async def delete(request: Request) -> Response:
    """Delete a webhook. MLflow's clients send no body here, and say of none what it is."""
    call = Call({}, request)
    await call.stores.commands.ask(DeleteWebhook(webhook_id=call.path["webhook_id"]), actor=call.actor)
    return Json({})


async def test(call: Call) -> Any:
    """Send a webhook an example of what it would be told, and say what it answered."""
    settings, webhook = WebhookSettings(), await _known(call)
    event = _event(call.object("event")) if "event" in call else webhook.events[0]
    if (example := EXAMPLES.get(event)) is None:
        raise InvalidRequest(f"there is no example of {event}: it does not happen here")
    secret = Seal.of(settings.key_file).open(webhook.secret) if webhook.secret else ""
    delivery = Delivery(webhook.url, str(uuid4()), Told(event, dict(example)).body(now_ms()), secret)
    try:
        answer = await exchange(delivery, settings)
    except DeliveryFailed as error:
        return {"result": {"success": False, "error_message": f"Failed to test webhook: {error}"}}
    body = answer.body[:_LONGEST_ANSWER].decode(errors="replace")
    return {"result": {"success": answer.status < 300, "response_status": answer.status, "response_body": body}}


async def _known(call: Call) -> Webhook:
    await call.stores.fresh.catalogue()
    return await get_webhook(call.stores.postgres, call.path["webhook_id"])


async def _checked_url(url: str, settings: WebhookSettings) -> str:
    try:
        await check_destination(url, settings.allow_private)
    except TransientError as error:
        raise InvalidRequest(str(error)) from error
    return url


def _sealed(secret: str, settings: WebhookSettings) -> str:
    check_text(secret, "Webhook secret", _LONGEST_SECRET)
    return Seal.of(settings.key_file).close(secret) if secret else ""


def _events(call: Call, *, required: bool = False) -> tuple[str, ...]:
    return tuple(_event(one) for one in call.objects("events", required=required))


def _event(fields: Fields) -> str:
    """Return an event, which MLflow writes with its two words in capitals."""
    return f"{fields.text('entity', required=True).lower()}.{fields.text('action', required=True).lower()}"


def _created(fact: WebhookCreated) -> Webhook:
    return Webhook(
        webhook_id=fact.webhook_id,
        name=fact.name,
        url=fact.url,
        events=fact.events,
        description=fact.description,
        secret=fact.secret,
        status=fact.status,
        created_at=fact.at,
        updated_at=fact.at,
    )


def _shown(webhook: Webhook) -> Mapping[str, Any]:
    return given(
        webhook_id=webhook.webhook_id,
        name=webhook.name,
        description=webhook.description or None,
        url=webhook.url,
        events=[dict(zip(("entity", "action"), one.upper().split("."), strict=True)) for one in webhook.events],
        status=webhook.status,
        creation_timestamp=webhook.created_at,
        last_updated_timestamp=webhook.updated_at,
    )


_ONE = "webhooks/{webhook_id}"
ROUTES = (
    *call_routes("POST", "webhooks", create, Policy.OPERATE, "Register a webhook"),
    *call_routes("GET", "webhooks", list_all, Policy.READ, "List webhooks"),
    *call_routes("GET", _ONE, get, Policy.READ, "Give a webhook"),
    *call_routes("PATCH", _ONE, update, Policy.OPERATE, "Change a webhook"),
    *(
        Route("DELETE", f"/{api}/2.0/mlflow/{_ONE}", delete, Policy.OPERATE, "Delete a webhook")
        for api in ("api", "ajax-api")
    ),
    *call_routes("POST", f"{_ONE}/test", test, Policy.OPERATE, "Send a webhook an example"),
)
