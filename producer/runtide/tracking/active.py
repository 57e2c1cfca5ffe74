"""The active run of the process: the innermost of those started and not ended. Threads share it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtide.tracking.run import Run

_stack: list["Run"] = []


def innermost() -> "Run | None":
    """Return the active run, or None."""
    while _stack and _stack[-1].ended:
        _stack.pop()
    return _stack[-1] if _stack else None


def enter(run: "Run") -> None:
    """Make a run the active one."""
    _stack.append(run)


def leave(run: "Run") -> None:
    """Take a run out, wherever it stands."""
    if run in _stack:
        _stack.remove(run)
