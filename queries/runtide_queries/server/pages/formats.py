"""How values read on a page."""

import math
from datetime import UTC, datetime

from runtide_queries.server.pages.html import Markup, element

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
NOTHING = "\u2013"


def number(value: float | None) -> str:
    """Return a number in at most six significant digits."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.5g}"


def moment(unix_ms: int | None) -> Markup | str:
    """Return a time as a UTC ``<time>`` element."""
    if unix_ms is None:
        return NOTHING
    try:
        at = datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"
    return element("time", f"{at:%Y-%m-%d %H:%M:%S}", datetime=at.isoformat(timespec="milliseconds"), title="UTC")


def duration(start_ms: int | None, end_ms: int | None) -> str:
    """Return the time between two moments."""
    if start_ms is None or end_ms is None or end_ms < start_ms:
        return NOTHING
    seconds = (end_ms - start_ms) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(count: int | None) -> str:
    """Return a number of bytes."""
    if count is None:
        return NOTHING
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:  # the unit reached is used after the loop
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
