"""HTTP over a socket, byte by byte: what no client library would send."""

import contextlib
import socket
from dataclasses import dataclass
from typing import BinaryIO, Self


@dataclass(frozen=True)
class Answer:
    """What came back; ``status`` 0 when the connection was closed without a word."""

    status: int
    media: str
    body: bytes


class RawHttp:
    """One connection, opened again when it was closed."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.address, self._timeout_s = (host, int(port)), timeout_s
        self._socket: socket.socket | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Return it; it opens when it is used."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        for one in (self._file, self._socket):
            if one is not None:
                one.close()
        self._socket = self._file = None

    def send(
        self, method: str, target: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes | list[bytes] = b""
    ) -> Answer:
        """Send a request and return the answer. A list is a body in chunks. Only the head of a stream of events is read.

        A server may close an idle connection at any time: what is not answered on a used one is sent again on a new one.
        """
        used = self._socket is not None
        answer = self._sent(method, target, headers, body)
        return self._sent(method, target, headers, body) if used and not answer.status else answer

    def _sent(
        self, method: str, target: bytes, headers: tuple[tuple[bytes, bytes], ...], body: bytes | list[bytes]
    ) -> Answer:
        chunked = isinstance(body, list)
        lines = [
            method.encode() + b" " + target + b" HTTP/1.1",
            b"Host: %s:%d" % (self.address[0].encode(), self.address[1]),
        ]
        lines += [name + b": " + value for name, value in headers]
        lines += [b"Transfer-Encoding: chunked"] if chunked else [b"Content-Length: %d" % len(body)] if body else []
        sent = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in [*body, b""]) if isinstance(body, list) else body
        # It may answer before it was told all, and that is read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connected().sendall(b"\r\n".join(lines) + b"\r\n\r\n" + sent)
        try:
            return self._answer(method)
        except (ConnectionResetError, ValueError):
            self.close()
            return Answer(0, "", b"")

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self.address, self._timeout_s)
            self._file = self._socket.makefile("rb")
        return self._socket

    def _answer(self, method: str) -> Answer:
        assert self._file is not None
        first = self._file.readline()
        if not first:
            self.close()
            return Answer(0, "", b"")
        status = int(first.split(b" ")[1])
        headers: dict[str, str] = {}
        while (text := self._file.readline().decode("latin-1").strip()) != "":
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        media = headers.get("content-type", "")
        if media.startswith("text/event-stream"):
            self.close()
            return Answer(status, media, b"")
        found = b"" if method == "HEAD" or status in (204, 304) else self._body(headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, media, found)

    def _body(self, headers: dict[str, str]) -> bytes:
        assert self._file is not None
        if "content-length" in headers:
            return self._file.read(int(headers["content-length"]))
        found = b""
        while (size := int(self._file.readline(), 16)) > 0:
            found += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return found
