"""What the SDK says to people on standard error: little, and plain."""

import sys


def say(text: str) -> None:
    """Write one line to standard error, at once: a notebook's kernel loses what it holds back when it ends."""
    if sys.stderr is not None:  # None in a windowed process without a console
        sys.stderr.write(f"runtide: {text}\n")
        sys.stderr.flush()
