"""Foreign clients under load, each a process of its own that produces with ``acks=all`` and tells what was acknowledged.

A program is called with NAME ADDRESS TOPIC PARTITIONS. It produces the values ``NAME:0``, ``NAME:1`` … (``padded``), number
n to partition n modulo PARTITIONS, and writes ``PARTITION OFFSET NUMBER`` for every record acknowledged (offset -1 when
its broker confirmed the record but did not say where it is). At the end of its standard input it sends no more, waits
for what is under way, writes ``done COUNT`` with how many it sent, and ends with status 0.
"""

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runtide_deploy.tied_child import tied

VALUE_BYTES = 200
UNANSWERED = 200
"""Records that a client has under way at most."""
PAUSE_SECONDS = 0.01
PAUSE_EVERY = 10
"""After so many records a client pauses: at most 1,000 records/s, so that nothing grows without a bound."""
_END_SECONDS = 150.0


class Acknowledged(NamedTuple):
    """A record that a broker has taken; ``offset`` is -1 when it did not say where."""

    partition: int
    offset: int
    number: int


def padded(name: str, number: int) -> bytes:
    """Return the value of a record."""
    return f"{name}:{number}".encode().ljust(VALUE_BYTES, b".")


def python_load(module: str) -> list[str]:
    """Return the command of a program of this folder."""
    return [sys.executable, "-m", f"tests.crash.{module}"]


class LoadClient:
    """One such process, and what it has been told."""

    def __init__(self, name: str, program: Sequence[str], address: str, topic: str, partitions: int) -> None:
        """Start it."""
        self.name = name
        self.acknowledged: list[Acknowledged] = []
        self.sent = -1
        command = [*program, name, address, topic, str(partitions)]
        self._process = subprocess.Popen(
            tied(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )
        self._listener = threading.Thread(target=self._listen, name=f"load of {name}", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("done "):
                self.sent = int(line.split()[1])
            else:
                self.acknowledged.append(Acknowledged(*map(int, line.split())))

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Let it finish what is under way; fails when it does not, or when it was refused a record."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        status = self._process.wait(_END_SECONDS)
        self._listener.join(_END_SECONDS)
        assert status == 0, f"the load of {self.name} ended with status {status}"
        assert len(self.acknowledged) == self.sent, f"{self.name} heard nothing of {self.sent - len(self.acknowledged)}"

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
