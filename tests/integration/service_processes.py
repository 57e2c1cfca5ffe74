"""Real processes of ours for tests: start, wait for the line ``ready``, kill, read what they said."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runtide.kafka import KafkaSettings, ensure_topics
from runtide_schemas.errors import TransientError
from tests.ports import free_port

START_S = 180.0


class Service:
    """One process; its stderr goes to ``<folder>/<name>.log``."""

    def __init__(
        self,
        folder: Path,
        name: str,
        module: str,
        *arguments: str,
        bootstrap: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.bootstrap = bootstrap
        self.log_path = folder / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = os.environ | {"RUNTIDE_KAFKA_BOOTSTRAP": bootstrap, "PYTHONUNBUFFERED": "1"}
        self._environment |= dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, whatever became of the one before."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )

    def ready(self) -> str:
        """Wait for the line ``ready ...`` and return what follows the word."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], START_S)[0], f"not ready: {self.log()}"
        line = self._process.stdout.readline().decode()
        assert line.startswith("ready"), f"said {line!r} instead of ready: {self.log()}"
        return line.removeprefix("ready").strip()

    def kill(self) -> None:
        """End it at once, as SIGKILL does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it politely and return its exit code."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None
        return self._process.wait(START_S)

    def log(self) -> str:
        """Return what it has written to stderr."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _end(self, signum: int) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signum)
        try:
            return self._process.wait(START_S)
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            if self._process.poll() is None:
                self._process.kill()


@contextmanager
def started(service: Service) -> Iterator[Service]:
    """Start a service and end it after use, however that went."""
    service.start()
    try:
        yield service
    finally:
        service.kill()


@contextmanager
def running_broker(folder: Path) -> Iterator[Service]:
    """Run the embedded broker on a free port; its ``bootstrap`` tells where."""
    port = free_port()
    arguments = ("--data", str(folder / "broker"), "--host", "127.0.0.1", "--port", str(port))
    address = f"127.0.0.1:{port}"
    with started(Service(folder, "broker", "runtide_deploy.broker", *arguments, bootstrap=address)) as service:
        yield service


async def with_topics(bootstrap: str, spread: int = 2) -> KafkaSettings:
    """Return the settings of a broker that has our topics, once it has."""
    settings, deadline = KafkaSettings(bootstrap=bootstrap), time.monotonic() + START_S
    while True:
        try:
            await ensure_topics(settings, spread)
        except TransientError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
            continue
        return settings
