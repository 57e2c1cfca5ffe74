"""A progress bar for long uploads, on a terminal only."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Advance = Callable[[int], object]
"""Called with the bytes that were sent since the last call."""

LEAST_BYTES = 32 * 1024 * 1024
VARIABLE = "RUNTIDE_PROGRESS"


def silent(sent: int) -> None:
    """Show nothing."""


@contextmanager
def shown(what: str, size: int) -> Iterator[Advance]:
    """Show a bar on standard error while ``size`` bytes are sent.

    Small uploads, and standard error that is no terminal, show none; ``RUNTIDE_PROGRESS=0`` never shows one.
    """
    wanted = os.environ.get(VARIABLE, "1") not in ("0", "false", "no")
    if not wanted or size < LEAST_BYTES or sys.stderr is None or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=size)
        yield lambda sent: progress.advance(task, sent)


def size_of(source: str | Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 when it cannot be read."""
    path = Path(source)
    try:
        if not path.is_dir():
            return path.stat().st_size
        return sum(found.stat().st_size for found in path.rglob("*") if found.is_file())
    except OSError:
        return 0
