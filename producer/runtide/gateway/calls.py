"""One call to the gateway, and what its answer means for whoever called."""

import json

from runtide.gateway.access import TLS_CA, TOKEN, TOKEN_FILE, GatewayAccess
from runtide.http_exchange import Channel, ExchangeFailed, Request, Response, Trust, parse_endpoint
from runtide.http_proxy import proxy_before
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

API = "/api/runtide/v1"
_TOO_LARGE = 413
_UNAUTHENTICATED, _FORBIDDEN, _PROXY_WANTS_CREDENTIALS = 401, 403, 407
_NO_SUCH_ROUTE = (301, 302, 303, 307, 308, 404, 405, 501, 505)
_PASSING = (408, 425, 429)


class GatewayAway(TransientError):
    """The gateway does not answer, or not now.

    Attributes:
        retry_after: seconds to wait; 0 when it did not say.
        cut_short: the connection was lost while the request was sent or answered, not before.
    """

    def __init__(self, message: str, retry_after: float = 0.0, *, cut_short: bool = False) -> None:
        """Keep what the caller goes by."""
        super().__init__(message)
        self.retry_after = retry_after
        self.cut_short = cut_short


class NoEntry(FatalError):
    """The gateway will never let us in with these settings: the message says which to change."""


class TooLarge(InvalidRequest):
    """The gateway, or a proxy before it, takes no body of that size."""


class GatewayChannel:
    """A connection to the gateway, kept for the next call. One call at a time."""

    def __init__(self, access: GatewayAccess) -> None:
        """Raises FatalError: the CA certificates, or the environment's proxy, cannot be used."""
        self._access = access
        endpoint = parse_endpoint(access.url, "the gateway's URL", TOKEN)
        self._channel = Channel(endpoint, Trust(access.tls_context(), TLS_CA), proxy_before(endpoint))

    async def call(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", *, timeout_s: float
    ) -> Response:
        """Call the gateway's own API and return its answer, whose status is 200 or 204.

        Raises:
            GatewayAway: there was no answer, or one that says later.
            NoEntry: it does not let us in, is not trusted, or is no gateway.
            TooLarge: the body is too large for it.
            InvalidRequest: it refuses the request for another reason.
        """
        headers = {**self._access.headers, **({"Content-Type": content_type} if content_type else {})}
        try:
            response = await self._channel.exchange(Request(method, API + path, headers, body), timeout_s)
        except ExchangeFailed as error:
            lost = isinstance(error.__cause__, ConnectionResetError | BrokenPipeError)
            raise GatewayAway(f"the gateway {self._access.url} does not answer: {error}", cut_short=lost) from error
        except FatalError as error:
            raise NoEntry(str(error)) from error
        if response.status not in (200, 204):
            raise _refusal(self._access.url, f"{method} {path.partition('?')[0]}", response)
        return response

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _refusal(url: str, what: str, response: Response) -> GatewayAway | NoEntry | InvalidRequest:
    said = f"{url} answered {what} with {response.status}: {_message(response)}"
    if response.status == _UNAUTHENTICATED:
        return NoEntry(f"{said}. Set {TOKEN} or {TOKEN_FILE} to a token that may log")
    if response.status == _PROXY_WANTS_CREDENTIALS:
        return NoEntry(f"{said}. The proxy wants to know you: HTTP_PROXY=http://USER:PASSWORD@HOST:PORT")
    if response.status == _FORBIDDEN:
        return NoEntry(said)
    if response.status in _NO_SUCH_ROUTE:
        return NoEntry(f"{said}. It is no Runtide gateway that takes events: check RUNTIDE_URI")
    if response.status == _TOO_LARGE:
        return TooLarge(said)
    if response.status >= 500 or response.status in _PASSING:
        return GatewayAway(said, _seconds(response.headers.get("retry-after", "")))
    return InvalidRequest(said)


def _message(response: Response) -> str:
    try:
        text = json.loads(response.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = response.body[:200].decode(errors="replace")
    return " ".join(str(text).split())[:600]


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), 60.0) if retry_after.isascii() and retry_after.isdecimal() else 0.0
