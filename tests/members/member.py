"""Members of a consumer group, each a foreign client in a process of its own that may leave, or be killed.

A program is called with ADDRESS TOPIC GROUP SESSION_MS. It subscribes and reads from the beginning, writes ``has 0,1,2``
whenever the partitions change that it has been given, and ``read VALUE`` for every record. At the end of its standard
input it leaves the group and ends with status 0.
"""

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from runtide_deploy.tied_child import tied

_END_SECONDS = 60.0


def python_member(module: str) -> list[str]:
    """Return the command of a program of this folder."""
    return [sys.executable, "-m", f"tests.members.{module}"]


class Member:
    """One such process, and what it has said last."""

    def __init__(self, program: Sequence[str], address: str, topic: str, group: str, session_ms: int) -> None:
        """Start it."""
        self.partitions: list[int] = []
        self.read: list[str] = []
        command = tied([*program, address, topic, group, str(session_ms)])
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "has":
                self.partitions = [int(number) for number in rest.split(",") if number]
            else:
                self.read.append(rest)

    def leave(self) -> None:
        """Let it leave its group and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(_END_SECONDS) == 0
        self._listener.join(_END_SECONDS)
        self.partitions = []

    def kill(self) -> None:
        """End it without a word to its group."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self.partitions = []
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
