"""The progress of a rebuild on a terminal: events, rate, time left."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from runtide_consumers.rebuild.watch import LogWatch, Pace, Watch

Work = Callable[[Watch], Coroutine[Any, Any, None]]


class BarWatch:
    """Draws a bar, and prints the steps above it. Use in a ``with`` block."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("folding"), BarColumn(), MofNCompleteColumn(), TextColumn("events {task.fields[pace]}"))
        self._bars = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, text: str) -> None:
        """Print a step."""
        self._bars.console.print(Text(text), soft_wrap=True)

    def pace(self, pace: Pace) -> None:
        """Move the bar."""
        left = "" if pace.seconds_left is None else f", {_duration(pace.seconds_left)} left"
        told = f"{pace.rate:,.0f}/s{left}"
        if self._task is None:
            self._task = self._bars.add_task("", total=pace.total, pace=told)
        self._bars.update(self._task, completed=pace.done, total=pace.total, pace=told)


class LineWatch(LogWatch):
    """Prints the steps where there is no terminal; the pace goes to the log."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def step(self, text: str) -> None:
        """Print a step."""
        self._console.print(Text(text), soft_wrap=True)


def run_watched(console: Console, work: Work) -> None:
    """Run ``work(watch)`` to its end, watched on a terminal by a bar."""
    if not console.is_terminal:
        asyncio.run(work(LineWatch(console)))
        return
    with BarWatch(console) as bar:
        asyncio.run(work(bar))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
