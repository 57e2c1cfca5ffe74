"""The REST contract of schema registries, as far as we need it (Confluent Schema Registry API reference).

Karapace and Apicurio Registry (below ``/apis/ccompat/v7``) serve the same paths and error codes.
"""

import asyncio
import base64
import json
import logging
import ssl
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from runtide.http_exchange import Endpoint, ExchangeFailed, Request, Response, Trust, exchange, parse_endpoint
from runtide.schema_registry.settings import SchemaRegistrySettings
from runtide_schemas.errors import FatalError, RuntideError, TransientError

log = logging.getLogger(__name__)

FULL_TRANSITIVE = "FULL_TRANSITIVE"
ROUNDS = 3
FIRST_PAUSE_S = 0.1
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_SUBJECT_NOT_FOUND, _VERSION_NOT_FOUND, _SCHEMA_NOT_FOUND, _NO_SUBJECT_COMPATIBILITY = 40401, 40402, 40403, 40408
_URL = "RUNTIDE_SCHEMA_REGISTRY_URL"
_CREDENTIALS = "RUNTIDE_SCHEMA_REGISTRY_USERNAME and RUNTIDE_SCHEMA_REGISTRY_PASSWORD"
_TLS_SETTINGS = "RUNTIDE_SCHEMA_REGISTRY_TLS_CA, _TLS_CERTIFICATE and _TLS_KEY"
_MISSING = (_SUBJECT_NOT_FOUND, _VERSION_NOT_FOUND, _SCHEMA_NOT_FOUND, _NO_SUBJECT_COMPATIBILITY)


class Missing(RuntideError):
    """The registry answered that it has no such subject, schema or setting."""


class IncompatibleSchema(FatalError):
    """The registry refuses a schema, because versions of its subject could not read one another."""


class Forbidden(FatalError):
    """The registry knows who asks and does not allow it."""


class RegistryApi:
    """Calls to one registry, which may have several addresses. Keeps no connection and belongs to no event loop.

    Every call raises TransientError when no address answers after several rounds, and FatalError when the registry
    refuses, or is none.
    """

    def __init__(self, settings: SchemaRegistrySettings) -> None:
        """Raises FatalError: the URL or the TLS files cannot be used."""
        self.endpoints = [parse_endpoint(url, _URL, _CREDENTIALS) for url in settings.url.split(",") if url.strip()]
        self._timeout_s = settings.timeout
        self._headers = {"Accept": f"{_CONTENT_TYPE}, application/json"} | _authorization(settings)
        self._trust = Trust(None, "")
        if any(endpoint.secure for endpoint in self.endpoints):
            self._trust = Trust(_tls_context(settings), _TLS_SETTINGS)

    async def lookup(self, subject: str, schema: str) -> int | None:
        """Return the id of a schema under a subject, or None when it is not registered there."""
        try:
            answer = await self._call("POST", f"/subjects/{_quoted(subject)}", {"schema": schema})
        except Missing:
            return None
        return _integer(answer, "id")

    async def register(self, subject: str, schema: str) -> int:
        """Register a schema under a subject, if it is not, and return its id.

        Raises:
            IncompatibleSchema: it does not fit the versions that are there.
        """
        return _integer(await self._call("POST", f"/subjects/{_quoted(subject)}/versions", {"schema": schema}), "id")

    async def schema(self, identifier: int) -> Any:
        """Return the Avro schema with an id, as JSON.

        Raises:
            Missing: there is none, or it is no Avro schema.
        """
        answer = await self._call("GET", f"/schemas/ids/{identifier}")
        if (kind := answer.get("schemaType", "AVRO")) != "AVRO":
            raise Missing(f"schema id {identifier} is of type {kind}, not AVRO")
        try:
            return json.loads(answer["schema"])
        except (KeyError, TypeError, ValueError) as error:
            raise Missing(f"schema id {identifier} is no Avro schema in JSON: {error!r}") from error

    async def compatibility(self, subject: str) -> str | None:
        """Return the compatibility level that is set for a subject itself; None when none is."""
        try:
            answer = await self._call("GET", f"/config/{_quoted(subject)}")
        except Missing:
            return None
        return str(answer.get("compatibilityLevel", ""))

    async def set_compatibility(self, subject: str, level: str) -> None:
        """Set the compatibility level of a subject."""
        await self._call("PUT", f"/config/{_quoted(subject)}", {"compatibility": level})

    def __str__(self) -> str:
        return ",".join(map(str, self.endpoints))

    async def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Return the first answer; that something is missing only once every address was asked, as some may lag."""
        request = self._request(method, path, body)
        failure, missing = "", None
        for attempt in range(ROUNDS):
            for endpoint in self.endpoints:
                try:
                    trust = self._trust if endpoint.secure else Trust(None, "")
                    response = await exchange(endpoint, request, trust, self._timeout_s)
                except ExchangeFailed as error:
                    failure = f"{endpoint}: {error}"
                    continue
                if _is_passing(response.status):
                    failure = f"{endpoint} answered {response.status} {_message(response)}"
                    continue
                try:
                    return _answer(response, endpoint, request)
                except Missing as error:
                    missing = error
            if missing is not None:
                raise missing
            if attempt + 1 < ROUNDS:
                await asyncio.sleep(FIRST_PAUSE_S * 2**attempt)
        raise TransientError(f"the schema registry is away: {method} {path}: {failure}")

    def _request(self, method: str, path: str, body: Any) -> Request:
        if body is None:
            return Request(method, path, self._headers)
        return Request(method, path, self._headers | {"Content-Type": _CONTENT_TYPE}, json.dumps(body).encode())


def _answer(response: Response, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    if response.status == HTTPStatus.OK:
        try:
            found = json.loads(response.body)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
    what = f"{request.method} {request.path}"
    raise _refusal(response, f"{endpoint}", what)


def _refusal(response: Response, endpoint: str, what: str) -> RuntideError:
    message = _message(response)
    match response.status:
        case HTTPStatus.UNAUTHORIZED:
            return FatalError(
                f"the schema registry {endpoint} does not accept the credentials ({what}: 401 {message}). Set "
                "RUNTIDE_SCHEMA_REGISTRY_USERNAME and _PASSWORD, or RUNTIDE_SCHEMA_REGISTRY_TOKEN"
            )
        case HTTPStatus.FORBIDDEN:
            return Forbidden(f"the schema registry {endpoint} does not allow {what}: 403 {message}")
        case HTTPStatus.CONFLICT:
            return IncompatibleSchema(f"the schema registry {endpoint} refuses {what}: {message}")
        case HTTPStatus.NOT_FOUND if _error_code(response) in _MISSING:
            return Missing(message)
    return FatalError(
        f"{endpoint} answered {what} with {response.status} {message}: not as a schema registry does. "
        "Check RUNTIDE_SCHEMA_REGISTRY_URL (Apicurio Registry's ends in /apis/ccompat/v7)"
    )


def _is_passing(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.REQUEST_TIMEOUT,
    )


def _error(response: Response) -> dict[str, Any]:
    try:
        found = json.loads(response.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error_code(response: Response) -> Any:
    return _error(response).get("error_code")


def _message(response: Response) -> str:
    text = _error(response).get("message") or response.body[:200].decode(errors="replace")
    return " ".join(str(text).split())[:600]


def _integer(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    if not isinstance(value, int) or not 0 <= value < 2**32:
        raise FatalError(f"the schema registry answered without a usable {name!r}: {str(answer)[:200]}")
    return value


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _authorization(settings: SchemaRegistrySettings) -> dict[str, str]:
    token, password = settings.token.get_secret_value(), settings.password.get_secret_value()
    if token and settings.username:
        raise FatalError("give RUNTIDE_SCHEMA_REGISTRY_TOKEN or RUNTIDE_SCHEMA_REGISTRY_USERNAME, not both")
    if any(character in token for character in "\r\n"):
        raise FatalError("RUNTIDE_SCHEMA_REGISTRY_TOKEN holds a line break")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if settings.username:
        return {"Authorization": "Basic " + base64.b64encode(f"{settings.username}:{password}".encode()).decode()}
    return {}


def _tls_context(settings: SchemaRegistrySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate is not None:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise FatalError(
            f"cannot load the schema registry's TLS files {settings.tls_ca}, {settings.tls_certificate}: {error}"
        ) from error
    return context
