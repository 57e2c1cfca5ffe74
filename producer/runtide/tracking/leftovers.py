"""Saying what an end left in the spool."""

from typing import TYPE_CHECKING

from runtide.messages import say
from runtide.spool.owners import died
from runtide.tracking.writer import Leftover

if TYPE_CHECKING:
    from runtide.tracking.run_log import RunLog


def say_leftover(what: str, leftover: Leftover | None) -> None:
    """Say what an end left in the spool, and the command that sends it."""
    if leftover is not None:
        say(
            f"{what}: {leftover.events} events are not delivered ({leftover.reason}). Nothing is lost; send them with:\n"
            f"    runtide sync {leftover.directory}"
        )


def say_end(run: "RunLog", leftover: Leftover | None) -> None:
    """Say what the end of a run left, its own and that of its writers which died on this machine and could say nothing.

    Those are, say, the workers of a ``multiprocessing.Pool``, which ends them by SIGTERM.
    """
    say_leftover(f"run {run.name or run.run_id}", leftover)
    if not run.ends_for_all or not run.spools.is_dir():
        return
    if dead := sum(died(path) for path in run.spools.iterdir()):
        say(
            f"run {run.name or run.run_id}: {dead} of its writers on this machine died and left what nobody sends. Nothing "
            f"is lost; send it with:\n    runtide sync {run.spools}"
        )
