"""Saying what an end left in the spool."""

from runtide.messages import say
from runtide.tracking.writer import Leftover


def say_leftover(what: str, leftover: Leftover | None) -> None:
    """Say what an end left in the spool, and the command that sends it."""
    if leftover is not None:
        say(
            f"{what}: {leftover.events} events are not delivered ({leftover.reason}). Nothing is lost; send them with:\n"
            f"    runtide sync {leftover.directory}"
        )
