"""One HTTP/1.1 request and its response (RFC 9112), over a connection of its own.

Requests to a registry are few: some at the start, and one per new schema afterwards. Nothing is kept open.
"""

import asyncio
import contextlib
import http.client
import io
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from runtide_schemas.errors import FatalError

MAX_BODY_BYTES = 4 * 1024 * 1024
_HTTP_ERRORS = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, http.client.HTTPException, ValueError)


class ExchangeFailed(Exception):
    """There was no complete response; another attempt may have one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A base URL, taken apart."""

    secure: bool
    host: str
    port: int
    prefix: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True, slots=True)
class Request:
    """A request below an endpoint's prefix. Headers may hold secrets and are not shown."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A response, its body whole."""

    status: int
    body: bytes


def parse_endpoint(url: str) -> Endpoint:
    """Return a base URL's parts.

    Raises:
        FatalError: it is no http or https URL with a host, or it holds a password.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise FatalError(f"RUNTIDE_SCHEMA_REGISTRY_URL holds no URL: {error}") from error
    if parts.username or parts.password:
        raise FatalError(
            "RUNTIDE_SCHEMA_REGISTRY_URL holds a user or password, which would end up in logs: give them as "
            "RUNTIDE_SCHEMA_REGISTRY_USERNAME and RUNTIDE_SCHEMA_REGISTRY_PASSWORD"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise FatalError(
            f"RUNTIDE_SCHEMA_REGISTRY_URL holds {url.strip()!r}; wanted is http(s)://HOST[:PORT][/PATH], and several "
            "of these with commas between them"
        )
    return Endpoint(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"))


async def exchange(endpoint: Endpoint, request: Request, tls: ssl.SSLContext | None, timeout_s: float) -> Response:
    """Send a request and return the response, within ``timeout_s`` seconds.

    Raises:
        ExchangeFailed: nobody answers, or not completely, or not in HTTP.
        FatalError: the server's certificate is not trusted, or it does not trust ours.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=tls)
            try:
                writer.write(_head(endpoint, request) + request.body)
                await writer.drain()
                return await _response(reader)
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        raise ExchangeFailed(f"no answer within {timeout_s:g} s") from error
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or ""):
            raise FatalError(
                f"TLS with the schema registry {endpoint} fails: {error}. Check RUNTIDE_SCHEMA_REGISTRY_TLS_CA, "
                "_TLS_CERTIFICATE and _TLS_KEY"
            ) from error
        raise ExchangeFailed(f"TLS fails: {error}") from error
    except OSError as error:
        raise ExchangeFailed(f"{type(error).__name__}: {error}") from error
    except _HTTP_ERRORS as error:
        raise ExchangeFailed(f"no whole HTTP response: {type(error).__name__}: {error}") from error


def _head(endpoint: Endpoint, request: Request) -> bytes:
    host = str(endpoint).split("/")[2]
    headers = {"Host": host, "Connection": "close", "Content-Length": str(len(request.body)), **request.headers}
    lines = [f"{request.method} {endpoint.prefix}{request.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


async def _response(reader: asyncio.StreamReader) -> Response:
    status = 100
    while status < 200:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        version, _, code = first.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"it begins with {first[:40]!r}")
        status = int(code[:3])
    headers = http.client.parse_headers(io.BytesIO(rest))
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return Response(status, await _chunks(reader))
    if (length := headers.get("Content-Length")) is not None:
        return Response(status, await reader.readexactly(_within_limit(int(length))))
    return Response(status, b"" if status in (204, 304) else await _until_closed(reader))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        _within_limit(len(body) + size)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return bytes(body)


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    with contextlib.suppress(ssl.SSLError):  # many servers close TLS without the closing message
        while chunk := await reader.read(65_536):
            body += chunk
            _within_limit(len(body))
    return bytes(body)


def _within_limit(size: int) -> int:
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ValueError(f"a body of {size} bytes; the limit is {MAX_BODY_BYTES}")
    return size
