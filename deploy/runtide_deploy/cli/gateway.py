"""Asking the gateway, and saying clearly when it cannot be asked."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtide.connection import Connection
from runtide.gateway.access import check_gateway_url
from runtide.secret_file import read_secret
from runtide_deploy.cli.extras import require_extra
from runtide_schemas.errors import InvalidRequest, RuntideError, TransientError

API = "/api/runtide/v1"
_TIMEOUT_S = 60.0

Parameters = Mapping[str, str | int]


def gateway_url(given: str, data: Path | None = None) -> str:
    """Return the gateway's address: the one given, else the environment's, else the running stack's (in ``data``, if given).

    Raises:
        InvalidRequest: none is known, or it is no address of one.
    """
    url = given or Connection.resolve(data=data).gateway
    if not url:
        raise InvalidRequest(
            "No gateway is known. Start a stack with `runtide up`, or name one with --gateway URL or RUNTIDE_GATEWAY."
        )
    return check_gateway_url(url)


def gateway_headers() -> dict[str, str]:
    """Return the headers that show the gateway's token, which RUNTIDE_GATEWAY_TOKEN or RUNTIDE_GATEWAY_TOKEN_FILE gives.

    Raises:
        FatalError: the file cannot be used.
    """
    token = os.environ.get("RUNTIDE_GATEWAY_TOKEN", "")
    if not token and (file := os.environ.get("RUNTIDE_GATEWAY_TOKEN_FILE")):
        token = read_secret(Path(file), "RUNTIDE_GATEWAY_TOKEN_FILE")
    return {"Authorization": f"Bearer {token}"} if token else {}


def get(gateway: str, path: str, parameters: Parameters | None = None) -> Any:
    """GET from the gateway's own API and return the JSON."""
    return _ask("GET", gateway, path, params={key: value for key, value in (parameters or {}).items() if value != ""})


def post(gateway: str, path: str, body: Mapping[str, Any]) -> Any:
    """POST JSON to the gateway's own API and return the JSON."""
    return _ask("POST", gateway, path, json=dict(body))


def _ask(method: str, gateway: str, path: str, **options: Any) -> Any:
    require_extra("server", "runs")
    import httpx

    url = gateway_url(gateway) + API + path
    try:
        answer = httpx.request(method, url, headers=gateway_headers(), timeout=_TIMEOUT_S, **options)
    except httpx.HTTPError as error:
        raise TransientError(
            f"No answer from the gateway at {url.split(API)[0]} ({error}). Is the stack up? Start it with `runtide up`."
        ) from error
    if answer.is_success:
        return answer.json()
    raise _refusal(answer)


def _refusal(answer: Any) -> RuntideError:
    try:
        body = answer.json()
        message, code = str(body["message"]), str(body["error_code"])
    except (ValueError, KeyError, TypeError):
        return TransientError(f"The gateway answered {answer.status_code}: {answer.text[:300]}")
    if answer.status_code == 401:
        message += ". This command shows the one that RUNTIDE_GATEWAY_TOKEN holds, or the file that RUNTIDE_GATEWAY_TOKEN_FILE names"
    return TransientError(message) if answer.status_code >= 500 else InvalidRequest(message, code)
