"""What a supervisor that was killed left behind: known from its state file, ended before the next start.

Every child carries a mark in its environment that its own children inherit, so that all are found, whatever sessions
they made and whatever became of their parents. A process id is never trusted without its start time.
"""

import json
import os
import secrets
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from runtide_deploy.standalone.services import SupervisorRunningError

MARK = "RUNTIDE_SUPERVISED_BY"
_SAME_START_S = 2.0  # The kernel's boot time, which psutil adds, moves a little when the clock is set.


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """A child as the state file remembers it."""

    pid: int
    started: float
    stop_signal: int


@dataclass(frozen=True, slots=True)
class SupervisorState:
    """The state file: who supervises, by which mark its processes are known, and which they are."""

    pid: int
    started: float
    mark: str
    children: Mapping[str, ChildRecord] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls) -> "SupervisorState":
        """A fresh state with a mark nobody else has."""
        return cls(os.getpid(), psutil.Process().create_time(), secrets.token_hex(16))

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        document = {
            "pid": self.pid,
            "started": self.started,
            "mark": self.mark,
            "children": {
                name: {"pid": child.pid, "started": child.started, "stop_signal": child.stop_signal}
                for name, child in self.children.items()
            },
        }
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(document, file, indent=1)
            Path(temporary).rename(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path) -> "SupervisorState | None":
        """What the last supervisor wrote; None when there is nothing, or nothing legible."""
        try:
            document = json.loads(path.read_text())
            children = {name: ChildRecord(**child) for name, child in document.pop("children").items()}
            return cls(**document, children=children)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None


def end_leftovers(path: Path, patience_s: float = 10.0) -> list[int]:
    """End every process that the supervisor of this state file left; returns their ids.

    First by each one's stop signal, after `patience_s` by SIGKILL. Raises `SupervisorRunningError` when that
    supervisor is alive.
    """
    state = SupervisorState.read(path)
    if state is None:
        return []
    if state.pid != os.getpid() and _is(state.pid, state.started):
        raise SupervisorRunningError(
            f"Another supervisor (pid {state.pid}) runs over {path}. Stop it (Ctrl-C in its terminal, or "
            f"'kill {state.pid}'), or use another data directory."
        )
    recorded = {child.pid: child for child in state.children.values() if _is(child.pid, child.started)}
    leftovers = [psutil.Process(pid) for pid in recorded if psutil.pid_exists(pid)]
    leftovers += [process for process in marked(state.mark) if process.pid not in recorded]
    stop_signals = {pid: child.stop_signal for pid, child in recorded.items()}
    end_processes(leftovers, patience_s, stop_signals)
    path.unlink(missing_ok=True)
    return [process.pid for process in leftovers]


def marked(mark: str) -> list[psutil.Process]:
    """All living processes, except this one, that carry the mark."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _carries(process, mark)]


def end_processes(
    processes: Sequence[psutil.Process], patience_s: float, stop_signals: Mapping[int, int] | None = None
) -> None:
    """Ask each to end (by its signal in `stop_signals`, else SIGTERM); after `patience_s` SIGKILL those that did not."""
    for process in processes:
        _signal(process, (stop_signals or {}).get(process.pid, signal.SIGTERM))
    _, alive = psutil.wait_procs(list(processes), patience_s)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, 10)


def start_time(pid: int) -> float | None:
    """When that process started, in seconds since the epoch; None when it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _is(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return bool(alive and abs(process.create_time() - started) < _SAME_START_S)
    except psutil.NoSuchProcess:
        return False


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):
        return False  # Another user's, or gone: not a child of ours.


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
