"""Moments as people write them: ``yesterday 14:00``, ``2 hours ago``, a time with or without a zone, a position in the log."""

import re
from datetime import datetime, time, timedelta

import typer

from runtide_schemas.errors import InvalidRequest

AT_HELP = (
    "As of when, by what the log had said: '2026-01-31 14:00' (local time unless a zone follows), '2 hours ago', "
    "'yesterday 14:00', 'tuesday 9:30' (the last one before today), the last record that counts as `runtide log` prints it "
    "(runs-3@1234), or a whole position as printed with an answer."
)
AT = typer.Option("", "--at", help=AT_HELP)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d|w|seconds?|minutes?|min|hours?|days?|weeks?)\s+ago")
_DAY = re.compile(r"([a-z]+)(?:\s+(\d{1,2}:\d{2}(?::\d{2})?))?")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def moment(text: str, now: datetime | None = None) -> str:
    """Return a moment as the gateway reads it: a time with its zone, or what is no time of day as it came.

    Parameters:
        text: what was written; a day without a time of day is its beginning.
        now: the time now, in the zone that times without one are of; the machine's when left out.

    Raises:
        InvalidRequest: it is no moment.
    """
    written = text.strip()
    if not written or written == "now" or "@" in written:
        return written
    try:
        return _with_zone(written, now).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError) as error:
        raise InvalidRequest(f"{text[:100]!r} lies outside of what a calendar has; the log begins later") from error


def _with_zone(written: str, now: datetime | None) -> datetime:
    at = now or datetime.now().astimezone()
    found = _ago(written.lower(), at) or _on_day(written.lower(), at) or _iso(written)
    if found is None:
        raise InvalidRequest(
            f"{written[:100]!r} is no moment. Write '2026-01-31 14:00', '2 hours ago', 'yesterday 14:00', 'tuesday 9:30', "
            "or a position such as runs-3@1234"
        )
    if found.tzinfo is not None:
        return found
    # The offset that held then: summer time may have begun or ended since.
    return found.astimezone() if now is None else found.replace(tzinfo=now.tzinfo)


def _ago(text: str, now: datetime) -> datetime | None:
    match = _AGO.fullmatch(text)
    if match is None:
        return None
    return now - timedelta(seconds=int(match[1]) * _UNITS[match[2][0]])


def _on_day(text: str, now: datetime) -> datetime | None:
    match = _DAY.fullmatch(text)
    if match is None or match[1] not in {"today", "yesterday", *_WEEKDAYS}:
        return None
    back = {"today": 0, "yesterday": 1}.get(match[1])
    if back is None:
        back = (now.weekday() - _WEEKDAYS.index(match[1]) - 1) % 7 + 1
    try:
        of_day = time.fromisoformat((match[2] or "00:00").zfill(5))
    except ValueError as error:
        raise InvalidRequest(f"{match[2]!r} is no time of day; write such as 14:00") from error
    return datetime.combine(now.date() - timedelta(days=back), of_day)


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
