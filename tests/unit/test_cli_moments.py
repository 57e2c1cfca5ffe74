"""Moments as people write them."""

from datetime import datetime, timedelta, timezone

import pytest

from runtide_deploy.cli.moments import moment
from runtide_schemas.errors import InvalidRequest

NOW = datetime(2026, 1, 8, 15, 30, tzinfo=timezone(timedelta(hours=2)))  # a Thursday


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2 hours ago", "2026-01-08T13:30:00.000+02:00"),
        ("90 min ago", "2026-01-08T14:00:00.000+02:00"),
        ("1 week ago", "2026-01-01T15:30:00.000+02:00"),
        ("yesterday 14:00", "2026-01-07T14:00:00.000+02:00"),
        ("today", "2026-01-08T00:00:00.000+02:00"),
        ("Tuesday 9:30", "2026-01-06T09:30:00.000+02:00"),
        ("thursday", "2026-01-01T00:00:00.000+02:00"),
        ("friday 23:59:59", "2026-01-02T23:59:59.000+02:00"),
        ("2026-01-06 12:00", "2026-01-06T12:00:00.000+02:00"),
        ("2026-01-06", "2026-01-06T00:00:00.000+02:00"),
        ("2026-01-06T12:00:00Z", "2026-01-06T12:00:00.000+00:00"),
        ("runs-3@1234", "runs-3@1234"),
        ("now", "now"),
        ("", ""),
    ],
)
def test_a_moment_gets_its_zone(written: str, expected: str) -> None:
    assert moment(written, NOW) == expected


def test_what_no_calendar_has_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'999999 weeks ago' lies outside of what a calendar has"):
        moment("999999 weeks ago", NOW)


@pytest.mark.parametrize(
    "written", ["soon", "yesterday 25:00", "hours ago", "2026-13-01", "monday monday", "1e9 hours ago"]
)
def test_anything_else_is_refused(written: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is no moment|is no time of day"):
        moment(written, NOW)
