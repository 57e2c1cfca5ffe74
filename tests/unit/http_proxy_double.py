"""An HTTP proxy that takes every host name for this machine, so that tests need no names."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class ProxyDouble:
    """Passes requests on and notes what it was asked for.

    Attributes:
        asked: first lines of requests.
        authorization: Proxy-Authorization of each, or "".
        refuses: answers 407 to everybody.
    """

    asked: list[str] = field(default_factory=list)
    authorization: list[str] = field(default_factory=list)
    refuses: bool = False
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            self.asked.append(lines[0])
            said = [line.partition(": ")[2] for line in lines if line.lower().startswith("proxy-authorization")]
            self.authorization.append(said[0] if said else "")
            if self.refuses:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                await self._pass_on(head, lines[0], reader, writer)
        writer.close()

    async def _pass_on(
        self, head: bytes, first: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        tunnel = first.startswith("CONNECT ")
        port = int(first.split(" ")[1].removeprefix("http://").split("/")[0].rpartition(":")[2])
        there, onward = await asyncio.open_connection("127.0.0.1", port)
        if tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            onward.write(head)
        await asyncio.gather(_copy(reader, onward), _copy(there, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()


@asynccontextmanager
async def proxy_double() -> AsyncIterator[ProxyDouble]:
    """Run a proxy for the length of a block."""
    proxy = ProxyDouble()
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield proxy
