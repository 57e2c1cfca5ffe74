"""JSON by MLflow's rules, and pages that escape whatever they are given."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import orjson
import pytest

from runtide_queries.buckets import Bucket
from runtide_queries.completeness import Range
from runtide_queries.server.answers import STATUSES, Json, error_answer, plain
from runtide_queries.server.pages.formats import duration, moment, number, size
from runtide_queries.server.pages.html import Markup, element, join, text
from runtide_queries.server.pages.sparkline import sparkline
from runtide_schemas.errors import FatalError, InvalidRequest, NotFound, TransientError

HOSTILE = '<script>alert("x")</script>\' & \x00'


def test_numbers_are_written_as_mlflow_writes_them() -> None:
    values = {"n": math.nan, "i": math.inf, "m": -math.inf, "f": 0.1, "l": 2**63 - 1, "b": True, "z": None}
    assert orjson.loads(Json(values).body) == {
        "n": "NaN", "i": "Infinity", "m": "-Infinity", "f": 0.1, "l": 2**63 - 1, "b": True, "z": None,
    }  # fmt: skip


def test_what_a_database_gives_has_a_json_form() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    values = [
        b"\x00\xff",
        Decimal("1.5"),
        at,
        at.date(),
        2**70,
        (1, 2),
        {3},
        Range(1, 2),
        np.array([1.0, np.nan]),
        {1: 2},
    ]
    assert plain(values) == [
        "AP8=", "1.5", at.isoformat(), "2026-01-02", str(2**70), [1, 2], [3], {"first": 1, "last": 2, "since": None}, [1.0, "NaN"], {"1": 2},
    ]  # fmt: skip
    with pytest.raises(TypeError):
        plain(object())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("x"), 400, "INVALID_PARAMETER_VALUE"),
        (NotFound("x"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (InvalidRequest("x", "RESOURCE_ALREADY_EXISTS"), 400, "RESOURCE_ALREADY_EXISTS"),
        (TransientError("x"), 503, "TEMPORARILY_UNAVAILABLE"),
        (FatalError("x"), 500, "INTERNAL_ERROR"),
    ],
)
def test_errors_have_mlflows_codes_and_statuses(error: Exception, status: int, code: str) -> None:
    answer = error_answer(error)  # type: ignore[arg-type]  # all of them are RuntideErrors
    assert answer.status_code == status == STATUSES[code]
    assert orjson.loads(answer.body) == {"error_code": code, "message": "x"}


def test_everything_is_escaped_but_markup() -> None:
    shown = element(
        "a", HOSTILE, element("b", "bold"), None, 3, href=HOSTILE, title=None, class_="x", data_key="k", hidden=True
    )
    assert "<script" not in shown
    assert shown.count("<") == 4
    assert "&quot;x&quot;" in shown
    assert shown.endswith("<b>bold</b>3</a>")
    assert ' class="x" data-key="k" hidden>' in shown
    assert text(Markup("<b>")) == "<b>"
    assert join(["<", Markup("<i>")]) == "&lt;<i>"
    assert element("br") == "<br>"


def test_values_read_well() -> None:
    assert [number(value) for value in (None, 0.123456789, 1e-7, 12345.0, math.nan, math.inf, -math.inf, 1e300)] == [
        "\u2013", "0.12346", "1e-07", "12,345", "NaN", "∞", "-∞", "1e+300",
    ]  # fmt: skip
    assert [duration(0, end) for end in (None, 1500, 61_000, 7_260_000, -5)] == [
        "\u2013",
        "1.5 s",
        "1 min 01 s",
        "2 h 01 min",
        "\u2013",
    ]
    assert [size(count) for count in (None, 5, 2048, 5 * 1024**3, 5000 * 1024**4)] == [
        "\u2013",
        "5 B",
        "2.0 KiB",
        "5.0 GiB",
        "5000.0 TiB",
    ]
    assert "2026-01-01 00:00:00" in moment(1_767_225_600_000)
    assert moment(10**18) == f"{10**18} ms"


def bucket(step: int, low: float | None, mean: float | None, high: float | None) -> Bucket:
    return Bucket(
        bucket=step,
        first_step=step,
        last_step=step,
        timestamp=0,
        minimum=low,
        maximum=high,
        mean=mean,
        last=0.0,
        points=1,
    )


def test_a_sparkline_leaves_out_what_has_no_place() -> None:
    assert sparkline((), "x") == ""
    assert sparkline((bucket(0, None, None, None),), "x") == ""
    drawn = sparkline(
        (bucket(0, 1.0, 2.0, 3.0), bucket(1, None, None, None), bucket(2, -math.inf, 5.0, math.inf)), HOSTILE
    )
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert "<script" not in drawn
    assert "style=" not in drawn


@pytest.mark.parametrize("values", [(5.0, 5.0), (1.7e308, -1.7e308), (1e-320, 2e-320)])
def test_a_sparkline_stays_within_its_frame(values: tuple[float, float]) -> None:
    drawn = sparkline(tuple(bucket(step, value, value, value) for step, value in enumerate(values)), "x")
    line = drawn.split('<polyline points="')[1].split('"')[0]
    for place in line.split(" "):
        x, y = map(float, place.split(","))
        assert 0 <= x <= 220
        assert 0 <= y <= 44
