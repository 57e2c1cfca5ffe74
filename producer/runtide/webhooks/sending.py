"""One delivery: signed, sent to an address that was checked, its answer judged. Redirects are not followed.

The signature is MLflow's (after Standard Webhooks): HMAC-SHA256 over ``ID.TIMESTAMP.BODY``.
"""

import base64
import hashlib
import hmac
import json
import ssl
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from runtide.http_exchange import Channel, Endpoint, ExchangeFailed, Request, Response, Trust
from runtide.webhooks.addresses import check_destination, parse_url, port_of
from runtide.webhooks.settings import WebhookSettings
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

_RETRIED = frozenset({408, 429})


class DeliveryFailed(Exception):
    """It was not taken.

    Attributes:
        again: another attempt may succeed.
        after_s: how long the receiver asks to be left alone; 0 when it does not say.
    """

    def __init__(self, message: str, *, again: bool, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.again = again
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is delivered where.

    Attributes:
        delivery_id: the same at each attempt, so that a receiver knows a second copy.
        secret: what it is signed with; empty: it is not.
    """

    url: str
    delivery_id: str
    body: dict[str, Any]
    secret: str = field(default="", repr=False)


async def send(delivery: Delivery, settings: WebhookSettings) -> Response:
    """Try once to deliver, and return the receiver's answer when it took it.

    Raises:
        DeliveryFailed: it did not, or may not be asked.
    """
    response = await exchange(delivery, settings)
    if response.status >= 300:
        again = response.status in _RETRIED or response.status >= 500
        wait = response.headers.get("retry-after", "")
        after_s = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 0.0
        raise DeliveryFailed(f"the receiver answered {response.status}", again=again, after_s=after_s)
    return response


async def exchange(delivery: Delivery, settings: WebhookSettings) -> Response:
    """Try once to deliver, and return whatever the receiver answered.

    Raises:
        DeliveryFailed: there was no answer, or it may not be asked.
    """
    try:
        addresses = await check_destination(delivery.url, settings.allow_private)
    except InvalidRequest as error:
        raise DeliveryFailed(str(error), again=False) from error
    except TransientError as error:
        raise DeliveryFailed(str(error), again=True) from error
    parts = parse_url(delivery.url, settings.allow_private)
    secure = parts.scheme == "https"
    endpoint = Endpoint(secure, str(parts.hostname), port_of(parts), "")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = _request(delivery, target)
    failure = "the host has no address"
    for address in addresses:
        channel = Channel(
            endpoint, Trust(_tls(settings.tls_ca) if secure else None, "RUNTIDE_WEBHOOK_TLS_CA"), to=address
        )
        try:
            return await channel.exchange(request, settings.timeout_seconds)
        except (ExchangeFailed, FatalError) as error:
            failure = str(error)
        finally:
            channel.close()
    raise DeliveryFailed(failure, again=True)


def signature(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Return the value of the header that shows who sent it."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _request(delivery: Delivery, target: str) -> Request:
    body, timestamp = json.dumps(delivery.body).encode(), str(int(time.time()))
    headers = {
        "Connection": "close",
        "Content-Type": "application/json",
        "User-Agent": "runtide-webhooks",
        "X-MLflow-Delivery-Id": delivery.delivery_id,
        "X-MLflow-Timestamp": timestamp,
    }
    if delivery.secret:
        headers["X-MLflow-Signature"] = signature(delivery.secret, delivery.delivery_id, timestamp, body)
    return Request("POST", target, headers, body)


@lru_cache(maxsize=4)
def _tls(authorities: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise FatalError(f"cannot read RUNTIDE_WEBHOOK_TLS_CA {authorities}: {error}") from error
    return context
