"""A run that a callback starts itself: its end does not hold up the script, whatever the broker does.

The end is on the disk when ``finish`` returns, and goes to the broker in the background, while the script goes on. The
process's end waits for what is left, for all runs together within the setting ``exit_deadline``, and says what stays in the
spools. A worker process may be ended without hooks (a ``multiprocessing.Pool`` does so), so there the end itself waits, as
``Run.end`` does, unless delivery is known to fail.
"""

import os
import sys

from runtide.tracking.active import leave
from runtide.tracking.leftovers import say_end
from runtide.tracking.plan import RunPlan
from runtide.tracking.run import Run
from runtide.tracking.run_log import EndStatus
from runtide_schemas.identity import now_ms

_MOST_WAITING = 64
_waiting: list["OwnRun"] = []
_forked = False


class OwnRun(Run):
    """A run of a callback's own; ``finish`` ends it."""

    def __init__(self, plan: RunPlan) -> None:
        """Begin the run; let go of earlier ones that the broker has, and of too many that wait for it."""
        _let_go_of_some()
        super().__init__(plan)

    def finish(self, status: EndStatus, reason: str = "") -> None:
        """End the run and return at once; nothing happens when it has ended. See the module for who waits when.

        When this returns, ``kill -9`` does not lose the end.

        Args:
            status: FINISHED, FAILED or KILLED.
            reason: why, for FAILED and KILLED.
        """
        leave(self)
        if self.ended:
            return
        fails = bool(self.writer.publisher.trouble)
        try:
            self.conclude(status if self.ends_for_all else None, now_ms(), reason)
        finally:
            self._leave_to_the_exit(fails)

    def _leave_to_the_exit(self, fails: bool) -> None:
        if self._configuration.connection.offline:
            self.let_go(0.0)
        elif _is_worker() and not fails:
            self.let_go(self.exit_deadline)
        else:
            _waiting.append(self)

    def let_go(self, timeout: float) -> None:
        """Wait for the broker at most so many seconds, close the spool, and say what stays in it."""
        leftover = self.close("FINISHED", "", timeout)
        say_end(self, leftover)
        if leftover is not None and leftover.interrupted:
            raise KeyboardInterrupt

    @property
    def patience(self) -> float:
        """Seconds that waiting for the broker is worth: none while delivery fails."""
        writer = self._concluded
        return self.exit_deadline if writer is not None and not writer.publisher.trouble else 0.0


def _let_go_of_some() -> None:
    """Keep open files within bounds; no lock, as a thread that held it would be missing in a forked child."""
    excess = max(0, len(_waiting) - _MOST_WAITING)
    for number, run in enumerate(list(_waiting)):
        if run.settled or number < excess:
            try:
                _waiting.remove(run)
            except ValueError:  # another thread did
                continue
            run.let_go(0.0 if run.settled else run.patience)


def _is_worker() -> bool:
    processes = sys.modules.get("multiprocessing.process")
    return _forked or (processes is not None and processes.parent_process() is not None)


def _in_child() -> None:
    global _forked
    _forked = True
    _waiting.clear()


os.register_at_fork(after_in_child=_in_child)
