"""A receiver of webhooks: a real HTTP or HTTPS server that notes what it is sent and answers as it is told to."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str]]


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)

    @property
    def event(self) -> str:
        """What it tells of."""
        return f"{self.told['entity']}.{self.told['action']}"


@dataclass
class Receiver:
    """Where it listens and what came. ``answer`` decides about each request, given how many came before it."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Callable[[int], Answer] = lambda number: (200, {})
    came: threading.Condition = field(default_factory=threading.Condition)

    def names(self) -> list[str]:
        """Return the names of what was told, in order."""
        return [str(one.told["data"]["name"]) for one in self.received]

    def wait_for(self, count: int, seconds: float = 60.0) -> list[Received]:
        """Return the requests once there are so many."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.received) >= count, seconds), self.received
            return list(self.received)


@contextmanager
def running_receiver(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.came:
                number = len(receiver.received)
                receiver.received.append(Received(self.path, dict(self.headers.items()), body))
                status, headers = receiver.answer(
                    number
                )  # before who waits for it can have the next ones answered otherwise
                receiver.came.notify_all()
            self.send_response(status)
            for name, value in (headers | {"Content-Length": "4"}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"seen")

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.url = f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
