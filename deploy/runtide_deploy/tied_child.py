"""Become another program that dies with its parent.

Run as a file, with the standard library only: ``python -I -S tied_child.py SIGNAL PARENT_PID COMMAND...``
(``tied`` makes that command). On Linux the kernel then sends SIGNAL when the parent ends, however it ends (prctl(2),
PR_SET_PDEATHSIG; kept across exec). Elsewhere it only becomes the program.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str], end_by: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return a command that runs ``command`` as a child of this process that gets ``end_by`` when this process ends.

    To the kernel the parent is the *thread* that starts it: start it on one that lives as long as it should.
    """
    return [sys.executable, "-I", "-S", __file__, str(end_by.value), str(os.getpid()), *command]


def main() -> None:
    """Tie, check that the parent did not die meanwhile, and exec."""
    signal_number, parent, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            sys.exit(f"cannot tie {command[0]} to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(f"the parent (pid {parent}) died before {command[0]} was started")
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argv of ours, no shell
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
