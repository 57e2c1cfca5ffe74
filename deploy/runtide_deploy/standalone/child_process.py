"""One child process in a session of its own: started with its output in a log file, watched, signalled, ended."""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from runtide_deploy.standalone.services import ServiceSpec
from runtide_deploy.tied_child import tied

_LARGEST_LOG_BYTES = 8 * 1024 * 1024
_POLL_S = 0.02

log = logging.getLogger(__name__)


class ChildProcess:
    """A running (or ended) process of one service. Its output goes straight to the log file, through no pipe of ours."""

    def __init__(self, spec: ServiceSpec, marks: Mapping[str, str]) -> None:
        """Start it; `marks` are added to its environment. Does not await, so it cannot be interrupted half-way."""
        self.spec = spec
        _rotate(spec.log_path)
        with spec.log_path.open("ab") as output:
            self.log_start = output.tell()
            self._looked_to = self.log_start
            self._process = subprocess.Popen(
                tied(spec.command, spec.orphan_signal),
                env={**_inherited(spec.withheld), **spec.env, **marks},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its session and process group."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; else its status, negative for the signal that ended it."""
        return self._process.poll()

    async def exited(self) -> int:
        """Return the exit status once it has ended."""
        while (status := self._process.poll()) is None:
            await _wait_for_end(self._process.pid)
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it alone; nothing happens when it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill_group(self) -> None:
        """End it and whatever it left in its process group, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def trim_log(self) -> None:
        """Move what it has written so far beside the log once that is large; the process goes on writing at the new end.

        What it writes between the copy and the cut is lost: it holds the file open, so that it cannot be renamed away.
        """
        path = self.spec.log_path
        try:
            if path.stat().st_size > _LARGEST_LOG_BYTES:
                shutil.copyfile(path, _older(path))
                os.truncate(path, 0)
                self.log_start = self._looked_to = 0
        except OSError as error:  # a full disk, say: it is tried again, and the service does not end for it
            log.warning("cannot trim the log %s: %s", path, error)

    async def said(self, pattern: str) -> None:
        """Return once a complete line of its output matches."""
        expression = re.compile(pattern)
        position = self.log_start
        while True:
            output = self._output(position)
            complete, _, rest = output.rpartition(b"\n")
            if any(expression.search(line) for line in complete.decode(errors="replace").split("\n")):
                return
            position += len(output) - len(rest)
            await asyncio.sleep(_POLL_S)

    def last_said(self, pattern: str) -> str:
        """Return what matches in the last line of its output that does and is new since this was called; "" when none is."""
        output = self._output(self._looked_to)
        complete, _, rest = output.rpartition(b"\n")
        self._looked_to += len(output) - len(rest)
        expression = re.compile(pattern)
        found = (expression.search(line) for line in reversed(complete.decode(errors="replace").split("\n")))
        return next((match.group() for match in found if match), "")

    def last_words(self, lines: int = 15) -> str:
        """The end of what this process has written."""
        return "\n".join(self._output(self.log_start)[-8192:].decode(errors="replace").splitlines()[-lines:])

    def _output(self, position: int) -> bytes:
        with self.spec.log_path.open("rb") as written:
            written.seek(position)
            return written.read()


def _inherited(withheld: tuple[str, ...]) -> dict[str, str]:
    """Return our environment without what the service has no business with: secrets of others."""
    return {name: value for name, value in os.environ.items() if not name.startswith(withheld)}


async def _wait_for_end(pid: int) -> None:
    """Until the process may have ended: by a pidfd where there is one (Linux), else for a moment."""
    if sys.platform != "linux":
        await asyncio.sleep(0.1)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _rotate(path: Path) -> None:
    """Keep one older log beside the current one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LARGEST_LOG_BYTES:
        path.rename(_older(path))


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
