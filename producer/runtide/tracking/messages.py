"""What the SDK says to people on standard error: little, plain, and with the command to run."""

import sys

from runtide.tracking.writer import Leftover


def say(text: str) -> None:
    """Write one line to standard error."""
    if sys.stderr is not None:  # None in a windowed process without a console
        sys.stderr.write(f"runtide: {text}\n")


def say_leftover(what: str, leftover: Leftover | None) -> None:
    """Say what an end left in the spool, and the command that sends it."""
    if leftover is not None:
        say(
            f"{what}: {leftover.events} events are not delivered ({leftover.reason}). Nothing is lost; send them with:\n"
            f"    runtide sync {leftover.directory}"
        )
