"""Folding points with NumPy against a fold in plain Python, to the bit."""

import math
import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtide_consumers.postgres.metrics import summarise
from runtide_schemas.events.metrics import MetricsLogged

Point = tuple[str, str, int, int, float]
NANS = tuple(struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8000000000000, 0xFFF8000000000001))

points = st.lists(
    st.tuples(
        st.sampled_from(("run1", "run2")),
        st.sampled_from(("loss", "acc", "ä")),
        st.integers(min_value=-1, max_value=1) | st.sampled_from((2**63 - 1, -(2**63))),
        st.integers(min_value=0, max_value=1),
        st.sampled_from((0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 5e-324, *NANS)),
    ),
    max_size=40,
)


def bits(value: float) -> int:
    """Return a double's bits as a number."""
    return int.from_bytes(struct.pack(">d", value), "big")


def one_nan(value: float) -> float:
    """Return the value; a NaN without its payload, which no store keeps."""
    return math.nan if math.isnan(value) else value


def rank(point: Point) -> Any:
    """Return the order of points within a series: step, time, value with NaN on top, bits."""
    _, _, step, at, value = point
    return step, at, (1, 0.0) if math.isnan(value) else (0, value), bits(value)


def events_of(series: list[Point], size: int) -> list[MetricsLogged]:
    """Return the points as events of at most ``size`` points of one run each."""
    events = []
    for run_id in sorted({point[0] for point in series}):
        of_run = [point for point in series if point[0] == run_id]
        for start in range(0, len(of_run), size):
            chunk = of_run[start : start + size]
            keys = (*sorted({point[1] for point in chunk}), "unused")
            events.append(
                MetricsLogged(
                    run_id=run_id,
                    keys=keys,
                    key_index=np.array([keys.index(point[1]) for point in chunk], np.int32),
                    step=np.array([point[2] for point in chunk], np.int64),
                    timestamp=np.array([point[3] for point in chunk], np.int64),
                    value=np.array([point[4] for point in chunk], np.float64),
                )
            )
    return events


def oracle(series: list[Point]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Return the summaries as the contract words them."""
    summaries = {}
    for name in {(point[0], point[1]) for point in series}:
        mine = sorted((point for point in series if (point[0], point[1]) == name), key=rank)
        numbers = [point[4] for point in mine if not math.isnan(point[4])]
        first, last = mine[0], mine[-1]
        summaries[name] = (
            bits(one_nan(last[4])),
            *last[2:4],
            bits(one_nan(first[4])),
            *first[2:4],
            min(numbers) + 0.0 if numbers else None,
            max(numbers) + 0.0 if numbers else None,
            len(mine),
            len(mine) - len(numbers),
        )
    return summaries


def assert_as_the_contract_says(series: list[Point], size: int) -> None:
    columns = summarise(events_of(series, size))
    rows = [] if columns is None else list(zip(*columns, strict=True))
    found = {
        (run_id, key): (bits(last), step, at, bits(first), *rest) for run_id, key, last, step, at, first, *rest in rows
    }
    assert found == oracle(series)


@given(points, st.integers(min_value=1, max_value=10))
def test_summaries_are_what_the_contract_says(series: list[Point], size: int) -> None:
    assert_as_the_contract_says(series, size)


@given(points, st.integers(min_value=1, max_value=10))
def test_so_are_those_of_points_in_their_order(series: list[Point], size: int) -> None:
    one_of_each = {point[:4]: point for point in series}
    assert_as_the_contract_says(sorted(one_of_each.values(), key=lambda point: point[2:4]), size)


def test_so_are_those_of_more_series_than_sixteen_bits_can_number() -> None:
    series = [("run1", f"loss/{number}", step, 0, float(number)) for step in (0, 1) for number in range(70_000)]
    columns = summarise([event for half in (series[:70_000], series[70_000:]) for event in one_event(half)])
    assert columns is not None
    _, keys, last, steps, *_ = columns
    assert dict(zip(keys, last, strict=True)) == {f"loss/{number}": float(number) for number in range(70_000)}
    assert set(steps) == {1}


def one_event(series: list[Point]) -> list[MetricsLogged]:
    """Return the points, each of a name of its own, as one event."""
    return [
        MetricsLogged(
            run_id=series[0][0],
            keys=tuple(point[1] for point in series),
            key_index=np.arange(len(series), dtype=np.int32),
            step=np.array([point[2] for point in series], np.int64),
            timestamp=np.array([point[3] for point in series], np.int64),
            value=np.array([point[4] for point in series], np.float64),
        )
    ]


def test_no_points_give_no_rows() -> None:
    empty = np.empty(0)
    event = MetricsLogged(
        run_id="r",
        keys=("a",),
        key_index=empty.astype(np.int32),
        step=empty.astype(np.int64),
        timestamp=empty.astype(np.int64),
        value=empty,
    )
    assert summarise([]) is None
    assert summarise([event]) is None
