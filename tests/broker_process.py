"""A broker as a real process, and a client that sends it raw requests."""

import contextlib
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kio.index import load_response_schema
from kio.serial import entity_reader, entity_writer
from kio.static.protocol import Payload

from runtide_deploy.tied_child import tied
from tests.ports import free_port

START_SECONDS = 180.0


class BrokerProcess:
    """One ``python -m runtide_deploy.broker`` on a data directory; may be stopped, killed and started again."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        self.settings = settings
        self.port = 0
        self.log = data.parent / f"{data.name}.log"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "BrokerProcess":
        """Start it on the port it had before, or on one that it keeps, and wait until it listens.

        It ends with the thread that starts it, so that a killed test run leaves none behind.
        """
        self.port = self.port or free_port()
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        where = (f"--data={self.data}", f"--port={self.port}")
        with self.log.open("a") as stderr:
            self.process = subprocess.Popen(
                tied([sys.executable, "-m", "runtide_deploy.broker", *where, *options]),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        line = self._first_line()
        if not line.startswith("listening on "):
            raise AssertionError(f"the broker did not start: {line!r}\n{self.log.read_text()}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def _first_line(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        return self.process.stdout.readline() if ready else ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it as a power cut of the process would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        with contextlib.closing(process.stdout) if process.stdout is not None else contextlib.nullcontext():
            return process.wait(START_SECONDS)

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()


class RawClient:
    """Sends requests of any version, well formed or not, over one socket."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str = "") -> None:
        self.socket = socket.create_connection((host, port), 60, (source, 0) if source else None)
        self._correlation = 0

    def ask(self, request: Any) -> Any:
        """Send a kio request and return its decoded response; every byte of it must be used."""
        self.send(request)
        return self.receive(type(request))

    def send(self, request: Any, version: int | None = None) -> int:
        """Send a kio request, perhaps pretending another version, and return its correlation id."""
        self.send_bytes(self.frame(request, version))
        return self._correlation

    def frame(self, request: Any, version: int | None = None) -> bytes:
        """Return the bytes of a request."""
        self._correlation += 1
        kind: type[Payload] = type(request)
        header_type: Any = kind.__header_schema__
        header = header_type(
            request_api_key=kind.__api_key__,
            request_api_version=kind.__version__ if version is None else version,
            correlation_id=self._correlation,
            client_id="raw",
        )
        frame = written(header) + written(request)
        return len(frame).to_bytes(4, "big") + frame

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self.socket.sendall(data)

    def receive(self, request_type: Any, version: int | None = None) -> Any:
        """Return the next response, decoded as the answer to a request type."""
        frame = self.receive_frame()
        wanted = request_type.__version__ if version is None else version
        kind = load_response_schema(request_type.__api_key__, wanted)
        _, header_size = entity_reader(kind.__header_schema__)(frame, 0)
        response, size = entity_reader(kind)(frame, header_size)
        assert header_size + size == len(frame)
        return response

    def receive_frame(self) -> bytes:
        """Return the next response's bytes.

        Raises:
            ConnectionError: the broker closed the connection.
        """
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, count: int) -> bytes:
        received = bytearray(count)
        left = memoryview(received)
        while left:
            more = self.socket.recv_into(left)
            if not more:
                raise ConnectionError("the broker closed the connection")
            left = left[more:]
        return bytes(received)

    def is_closed_by_broker(self) -> bool:
        """Return whether the broker ends this connection without an answer."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Collected:
    """A writable for kio."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, chunk: bytes) -> int:
        self.data += chunk
        return len(chunk)


def written(entity: Any) -> bytes:
    """Return an entity's bytes."""
    sink: Any = Collected()
    entity_writer(type(entity))(sink, entity)
    return bytes(sink.data)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll a condition until it holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.02)


@contextlib.contextmanager
def running_broker(data: Path, **settings: object) -> Iterator[BrokerProcess]:
    """Run a broker for the length of a block."""
    broker = BrokerProcess(data, **settings)
    try:
        yield broker.start()
    finally:
        broker.kill()
