"""A proxy before a broker that loses answers to Produce requests: the broker has the records, the client does not know.

Clients reach a broker at the address that it gives itself in its answers. The proxy puts its own port there; host and
port stand side by side in every answer that has them (Metadata, FindCoordinator, DescribeCluster).
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

PRODUCE = 0
_START_SECONDS = 60.0


class LossyProxy:
    """Forwards everything, but of the answers to Produce requests every ``every``-th ends the client's connection instead."""

    def __init__(self, host: str, port: int, every: int) -> None:
        self.lost = 0
        """Answers lost so far; the batches of each are sent again."""
        self.address = ""
        self._target = (host, port)
        self._every = every
        self._seen = 0
        self._port = 0

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        started.set()
        await stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        produced: set[bytes] = set()
        tasks = [
            asyncio.create_task(self._forward_requests(reader, requests, produced)),
            asyncio.create_task(self._forward_answers(answers, writer, produced)),
        ]
        _, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in (writer, requests):
            side.close()
            with contextlib.suppress(OSError):
                await side.wait_closed()

    async def _forward_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, produced: set[bytes]
    ) -> None:
        async for frame in _frames(reader):
            if int.from_bytes(frame[4:6], "big") == PRODUCE:
                produced.add(frame[8:12])
            writer.write(frame)
            await writer.drain()

    async def _forward_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, produced: set[bytes]
    ) -> None:
        host, port = self._target
        theirs, ours = (host.encode() + number.to_bytes(4, "big") for number in (port, self._port))
        async for frame in _frames(reader):
            correlation_id = frame[4:8]
            if correlation_id in produced:
                produced.discard(correlation_id)
                self._seen += 1
                if self._seen % self._every == 0:
                    self.lost += 1
                    return
            writer.write(frame.replace(theirs, ours))
            await writer.drain()


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield every message with its size in front, until the other side is gone."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size = await reader.readexactly(4)
            yield size + await reader.readexactly(int.from_bytes(size, "big"))


@contextlib.contextmanager
def lossy_proxy(host: str, port: int, every: int) -> Iterator[LossyProxy]:
    """Run a proxy in a thread of its own for the length of a block."""
    proxy, started, stop = LossyProxy(host, port, every), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.serve(started, stop)), daemon=True)
    thread.start()
    assert started.wait(_START_SECONDS), "the proxy does not listen"
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
