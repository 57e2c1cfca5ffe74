"""What happens to open runs when their process ends or forks.

Ends: ``atexit`` covers return, ``sys.exit``, exceptions and Ctrl-C, in this process only (a forked child runs its
parent's hooks too). ``multiprocessing`` children end by ``os._exit``; its own finalizers close their writers.
A notebook's kernel gets less time than other processes, since Jupyter terminates one that takes longer; what its cells
raise ends nothing. SIGTERM's default ends a process without any hook, and no handler is put behind the user's back: what was logged is in
the spool, and ``runtide sync`` closes the writer as *recovered*. ``RUNTIDE_HANDLE_SIGTERM=1`` asks for a clean exit.
"""

import atexit
import math
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from runtide.tracking.leftovers import say_end

if TYPE_CHECKING:
    from runtide.tracking.run_log import EndStatus, RunLog

_open: dict[int, "RunLog"] = {}
_seen_error: BaseException | None = None
_hooked_pid = 0
_ending_pid = 0
_EXIT_PRIORITY = 10
_KERNEL_DEADLINE_S = 1.5
"""Jupyter sends SIGTERM 2.5 s after it has asked a kernel to end; then nobody would hear what is left."""


def writer_opened(run: "RunLog") -> None:
    """Have a run's writer closed when this process ends."""
    global _seen_error, _hooked_pid
    _open[id(run)] = run
    _seen_error = _last_error()
    if _hooked_pid != os.getpid():
        _hooked_pid = os.getpid()
        _hook()


def run_ended(run: "RunLog") -> None:
    """Forget a run that was ended."""
    _open.pop(id(run), None)


def is_ending() -> bool:
    """Return True once this process has ended its runs because it ends itself."""
    return _ending_pid == os.getpid()


def handle_sigterm() -> None:
    """Turn SIGTERM into SystemExit in the main thread, unless something else handles it already."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit_on_sigterm)


class Terminated(SystemExit):
    """SIGTERM arrived and ``RUNTIDE_HANDLE_SIGTERM`` is set."""


def status_of(error: BaseException | None) -> tuple["EndStatus", str]:
    """Return the status and reason of a run that an exception ended; None is a normal end."""
    match error:
        case None:
            return "FINISHED", ""
        case Terminated():
            return "KILLED", "SIGTERM"
        case SystemExit(code=None | 0):
            return "FINISHED", ""
        case KeyboardInterrupt():
            return "KILLED", "KeyboardInterrupt"
        case _:
            return "FAILED", f"{type(error).__name__}: {error}"


def end_open_runs() -> None:
    """End every open run of this process within one deadline, innermost first."""
    error = _last_error()
    status, reason = status_of(error if error is not _seen_error else _terminated)
    deadline: float | None = None
    for run in reversed(list(_open.values())):
        run_ended(run)
        if deadline is None:
            deadline = time.monotonic() + min(run.exit_deadline, _KERNEL_DEADLINE_S if _in_kernel() else math.inf)
        try:
            leftover = run.close(status, reason, max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:  # also between two steps: the second call goes on where the first was
            deadline, leftover = 0.0, run.close(status, reason, 0.0)
        say_end(run, leftover)
        if leftover is not None and leftover.interrupted:
            deadline = 0.0


_terminated: BaseException | None = None


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signature of handlers
    global _terminated
    _terminated = Terminated(128 + number)
    raise _terminated


def _hook() -> None:
    atexit.register(_at_exit, os.getpid())
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, args=(os.getpid(),), exitpriority=_EXIT_PRIORITY)


def _at_exit(pid: int) -> None:
    global _ending_pid
    if pid == os.getpid():
        _ending_pid = pid
        end_open_runs()


def _last_error() -> BaseException | None:
    """Return the exception that nobody caught. Interactive sessions go on after those, so theirs do not count."""
    if hasattr(sys, "ps1") or _shell() is not None:
        return None
    error: BaseException | None = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error


def _shell() -> Any:
    """Return the IPython shell that this process is, or None; a script may import IPython and be none."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def _in_kernel() -> bool:
    return getattr(_shell(), "kernel", None) is not None


def _in_child() -> None:
    for run in _open.values():
        run.became_child()
    _open.clear()


os.register_at_fork(after_in_child=_in_child)
