"""HTTP/1.1 requests and their responses (RFC 9112), on asyncio's streams.

No executor and no thread takes part, so it works while the interpreter exits, which is when a short script's events
are sent. ``exchange`` makes one request over a connection of its own; a ``Channel`` keeps its connection for the next.
"""

import asyncio
import contextlib
import http.client
import io
import ssl
from collections.abc import Mapping
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
    """A response, its body whole. Names of headers are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to trust over TLS.

    Attributes:
        tls: None for plain HTTP.
        settings: what to look at when the server's certificate is not trusted, or ours is not.
    """

    tls: ssl.SSLContext | None
    settings: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``authorization`` is the value of Proxy-Authorization; empty for none."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that shows who we are."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def parse_endpoint(url: str, setting: str, credentials: str) -> Endpoint:
    """Return a base URL's parts. ``setting`` names where the URL comes from, ``credentials`` where a password belongs.

    Raises:
        FatalError: it is no http or https URL with a host, or it holds a password.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise FatalError(f"{setting} holds no URL: {error}") from error
    if parts.username or parts.password:
        raise FatalError(f"{setting} holds a user or password, which would end up in logs: give them as {credentials}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise FatalError(
            f"{setting} holds {url.strip()!r}; wanted is http(s)://HOST[:PORT][/PATH], and several of these with commas "
            "between them"
        )
    return Endpoint(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"))


class Channel:
    """A connection to one server that is kept for the next request. One request at a time."""

    def __init__(self, endpoint: Endpoint, trust: Trust, proxy: Proxy | None = None, *, to: str = "") -> None:
        """Connect with the first request, through an HTTP proxy if there is one (RFC 9110: CONNECT for https).

        ``to`` is the address to connect to, of several that the host may have; the server must still show that it is the host.
        """
        self.endpoint = endpoint
        self._trust = trust
        self._proxy = proxy
        self._to = to or endpoint.host
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: Request, timeout_s: float) -> Response:
        """Send a request and return the response, within ``timeout_s`` seconds.

        A connection that the server closed meanwhile is opened anew, so what is sent has to bear being sent twice.

        Raises:
            ExchangeFailed: nobody answers, or not completely, or not in HTTP.
            FatalError: the server's certificate is not trusted, or it does not trust ours.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._streams is not None:
                    with contextlib.suppress(OSError, *_HTTP_ERRORS):
                        return await self._exchange(request)
                return await self._exchange(request)
        except TimeoutError as error:
            raise ExchangeFailed(f"no answer within {timeout_s:g} s") from error
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or ""):
                raise FatalError(f"TLS with {self.endpoint} fails: {error}. Check {self._trust.settings}") from error
            raise ExchangeFailed(f"TLS fails: {error}") from error
        except OSError as error:
            raise ExchangeFailed(f"{type(error).__name__}: {error}") from error
        except _HTTP_ERRORS as error:
            raise ExchangeFailed(f"no whole HTTP response: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _exchange(self, request: Request) -> Response:
        keep = False
        try:
            if self._streams is None:
                self._streams = await self._connect()
            reader, writer = self._streams
            response, keep = await _answered(reader, writer, self._head(request) + request.body)
            return response
        finally:
            if not keep:
                self.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server, proxy, tls = self.endpoint, self._proxy, self._trust.tls
        if proxy is None:
            name = server.host if tls is not None else None
            return await asyncio.open_connection(self._to, server.port, ssl=tls, server_hostname=name)
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        try:
            if tls is not None:
                await _open_tunnel(reader, writer, server, proxy)
                await writer.start_tls(tls, server_hostname=server.host)
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    def _head(self, request: Request) -> bytes:
        target, headers = f"{self.endpoint.prefix}{request.path}", {"Host": _authority(self.endpoint)}
        if self._proxy is not None and self._trust.tls is None:
            target = f"http://{_authority(self.endpoint)}{target}"
            headers |= self._proxy.headers
        headers |= {"Content-Length": str(len(request.body)), **request.headers}
        return _lines(f"{request.method} {target} HTTP/1.1", headers)


async def exchange(endpoint: Endpoint, request: Request, trust: Trust, timeout_s: float) -> Response:
    """Send one request over a connection of its own; see ``Channel.exchange``."""
    channel = Channel(endpoint, trust)
    closing = Request(request.method, request.path, {"Connection": "close", **request.headers}, request.body)
    try:
        return await channel.exchange(closing, timeout_s)
    finally:
        channel.close()


async def _open_tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Endpoint, proxy: Proxy
) -> None:
    authority = _authority(server)
    writer.write(_lines(f"CONNECT {authority} HTTP/1.1", {"Host": authority, **proxy.headers}))
    await writer.drain()
    first = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
    if not first.startswith(b"HTTP/1.") or not first.partition(b" ")[2].startswith(b"2"):
        raise ValueError(f"the proxy {proxy.host}:{proxy.port} answered {first[:80]!r} to CONNECT {authority}")


async def _answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[Response, bool]:
    """Send a request and return its response, which may come, and be the last word, before all of it is sent."""
    answering = asyncio.ensure_future(_response(reader))
    try:
        writer.write(request)
        sending = asyncio.ensure_future(writer.drain())
        await asyncio.wait({answering, sending}, return_when=asyncio.FIRST_COMPLETED)
        whole = sending.done() and not sending.cancelled() and sending.exception() is None
        sending.cancel()
        response, keep = await answering  # a connection that is lost ends the reading, too
        return response, keep and whole
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


def _authority(endpoint: Endpoint) -> str:
    return str(endpoint).split("/")[2]


def _lines(first: str, headers: Mapping[str, str]) -> bytes:
    if unfit := [name for name, value in headers.items() if not value.isprintable()]:
        raise FatalError(f"what is sent as {', '.join(unfit)} holds a line break or a control character")
    return "\r\n".join((first, *(f"{name}: {value}" for name, value in headers.items()), "", "")).encode("latin-1")


async def _response(reader: asyncio.StreamReader) -> tuple[Response, bool]:
    """Return the response, and whether the connection can be used again."""
    status = 100
    while status < 200:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        version, _, code = first.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"it begins with {first[:40]!r}")
        status = int(code[:3])
    headers = {name.lower(): value for name, value in http.client.parse_headers(io.BytesIO(rest)).items()}
    keep = version == b"HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Response(status, await _chunks(reader), headers), keep
    if (length := headers.get("content-length")) is not None:
        return Response(status, await reader.readexactly(_within_limit(int(length))), headers), keep
    if status in (204, 304):
        return Response(status, b"", headers), keep
    return Response(status, await _until_closed(reader), headers), False


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        _within_limit(len(body) + size)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
        pass
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
