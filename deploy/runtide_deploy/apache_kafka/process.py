"""One node as a child process, for tests and programs that need a real Apache Kafka for a while."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Self

from runtide_deploy.apache_kafka.artefacts import CannotResolve, java_command, resolve_class_path
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings
from runtide_deploy.apache_kafka.storage import address_of, server_command, with_ports
from runtide_deploy.tied_child import tied

START_SECONDS = 240.0
STOP_SECONDS = 30.0
_PAUSE_SECONDS = 0.05


class ApacheKafka:
    """A node that may be started, stopped, killed and started again; it keeps its ports and data."""

    def __init__(self, settings: ApacheKafkaSettings) -> None:
        """Choose the ports. Nothing runs yet."""
        self.settings = with_ports(settings)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port for clients."""
        return address_of(self.settings)

    @property
    def exit_status(self) -> int | None:
        """Status of the process that was started last, if it ended by itself; None while it runs."""
        return None if self.process is None else self.process.poll()

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Run the node for the length of a block; it is killed at the end, its data is kept."""
        try:
            self.start()
            self.wait_listening()
            yield self
        finally:
            self.kill()

    def prepare(self) -> list[str]:
        """Return the command that runs it, with all that it needs in place.

        Raises:
            CannotResolve: Java, Maven, the artefacts or the storage cannot be had.
        """
        return server_command(self.settings, java_command(), resolve_class_path())

    def start(self) -> None:
        """Start it, without waiting until it listens; its output goes to ``kafka.log`` in its directory.

        It ends with the thread that calls this, even when that is killed (Linux).

        Raises:
            CannotResolve: as ``prepare``.
        """
        command = self.prepare()
        with (self.settings.data / "kafka.log").open("ab") as log:
            self.process = subprocess.Popen(tied(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_listening(self) -> None:
        """Return once it accepts clients, which KRaft does when the broker is unfenced.

        Raises:
            CannotResolve: it ended, or did not listen in time; its last words are in the message.
        """
        deadline = time.monotonic() + START_SECONDS
        while self.process is not None and self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection((self.settings.host, self.settings.port), timeout=1).close()
                return
            time.sleep(_PAUSE_SECONDS)
        words = (self.settings.data / "kafka.log").read_text(errors="replace")[-3000:]
        raise CannotResolve(f"Apache Kafka does not listen on {self.address}; it said:\n{words}")

    def stop(self) -> int:
        """Ask it to stop; return its exit status (143 after a clean stop)."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(STOP_SECONDS)
