"""Where a point stands: at which step, and when."""

from typing import Any

from runtide_schemas.errors import InvalidRequest

_MAX_LONG = 2**63 - 1


def check_step(step: Any) -> int:
    """Return a step: a whole number of 64 bits."""
    try:
        number = int(step)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"Metric step must be a whole number, got {step!r} ({type(step).__name__})") from error
    if isinstance(step, str | bytes) or number != step or not -_MAX_LONG - 1 <= number <= _MAX_LONG:
        raise InvalidRequest(f"Metric step must be a whole number of 64 bits, got {step!r}")
    return number


def check_timestamp(timestamp: Any) -> int:
    """Return a timestamp: Unix time in milliseconds, not negative."""
    try:
        milliseconds = int(timestamp)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"Metric timestamp must be Unix time in milliseconds, got {timestamp!r}") from error
    if isinstance(timestamp, str | bytes) or not 0 <= milliseconds <= _MAX_LONG:
        raise InvalidRequest(f"Metric timestamp must be Unix time in milliseconds, not negative, got {timestamp!r}")
    return milliseconds
