"""Values as a person reads them in a terminal."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey instead of show: control characters but tab and new line, and changes of direction."""
_STATUS_STYLES = {"FINISHED": "green", "FAILED": "bold red", "KILLED": "yellow", "RUNNING": "cyan", "LOST": "magenta"}


def new_console() -> Console:
    """Return a console for standard output; as wide as the terminal, or as COLUMNS says."""
    return Console(soft_wrap=False)


def plain(text: object) -> str:
    """Return text that somebody else has written, to be printed as it is: no markup, and nothing that a terminal obeys."""
    return escape(_OBEYED.sub(lambda found: repr(found[0])[1:-1], str(text)))


def when(unix_ms: int | None) -> str:
    """Return a local time without seconds' fractions; a dash for none."""
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}" if unix_ms else "-"


def duration(start_ms: int | None, end_ms: int | None) -> str:
    """Return how long something took, or has taken until now."""
    if not start_ms:
        return "-"
    seconds = max(0.0, ((end_ms or time.time() * 1000) - start_ms) / 1000)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def number(value: float | str | None) -> str:
    """Return a metric value with up to six significant digits; NaN and infinities come as text."""
    return "-" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def size(count: int) -> str:
    """Return bytes in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def status_text(status: str | None) -> Text:
    """Return a run's status in its color."""
    return Text(status or "not started", style=_STATUS_STYLES.get(status or "", "dim"))


def print_pairs(console: Console, pairs: Mapping[str, Any]) -> None:
    """Print names and values side by side."""
    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in pairs.items():
        table.add_row(f"[cyan]{plain(key)}[/]", plain(value))
    console.print(table)


def print_moment(console: Console, answer: Mapping[str, Any]) -> None:
    """Print the moment that an answer is of, when one was asked for, with what asks for the very same state again."""
    if told := answer.get("as_of"):
        console.print(f"\n[dim]as of {escape(told['asked'])}; --at {escape(told['position'])}[/]", soft_wrap=True)
