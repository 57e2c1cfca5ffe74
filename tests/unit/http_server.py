"""An HTTP server whose answers a test writes down beforehand, over real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class ScriptedServer:
    """Answers requests one after the other.

    Attributes:
        answers: what is answered next: raw bytes, or None to hang up without a word.
        otherwise: answers from a request's body once none is left.
        bodies, heads: of the requests so far.
        connections: how many there were.
    """

    otherwise: Callable[[bytes], bytes]
    answers: list[bytes | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    hang_up_after_answer: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client, or the script, ends it."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                body = await reader.readexactly(length)
                self.heads.append(head)
                self.bodies.append(body)
                answer = self.answers.pop(0) if self.answers else self.otherwise(body)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if self.hang_up_after_answer:
                    break
        writer.close()


@asynccontextmanager
async def scripted_server(
    otherwise: Callable[[bytes], bytes], tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run a server for the length of a block."""
    server = ScriptedServer(otherwise)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    async with listening:
        yield server


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Return a response whose connection is kept."""
    lines = (f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body
