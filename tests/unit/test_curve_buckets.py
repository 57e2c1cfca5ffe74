"""A short curve is cut as DuckDB cuts a long one: the same spans, the same figures, of whatever points."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runtide_consumers.duckdb.database_file import Connection, open_database
from runtide_consumers.duckdb.rows import run_over
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_queries import history
from runtide_queries.buckets import Bucket, cut
from runtide_queries.history import SHORT_POINTS, curve
from runtide_queries.statements import load

Points = Sequence[tuple[int, int, float]]
STEPS = st.one_of(st.integers(-30, 30), st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1, 0]))
VALUES = st.one_of(
    st.integers(-3, 3).map(lambda number: number + 0.5), st.sampled_from([math.nan, math.inf, -math.inf])
)
POINTS = st.lists(st.tuples(STEPS, st.integers(0, 3), VALUES), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Connection:
    found = open_database(DuckdbSettings(file=tmp_path_factory.mktemp("curves") / "history.duckdb"))
    found.execute("INSERT INTO run_ids VALUES (4, 'other'), (7, 'run')")
    found.execute("INSERT INTO metric_keys VALUES (2, 'other'), (9, 'loss')")
    return found


def store(connection: Connection, points: Points) -> None:
    """Have these points in the file, and others around them."""
    connection.execute("DELETE FROM points")
    connection.execute("INSERT INTO points VALUES (4, 9, 0, -1000, 9, 9, 0), (7, 2, 0, 1000, 9, 9, 0)")
    step, timestamp, value = map(list, zip(*points, strict=True))
    same = {name: [number] * len(points) for name, number in (("run", 7), ("key", 9), ("writer", 0), ("place", 0))}
    table = pa.table({**same, "step": step, "timestamp": timestamp, "value": pa.array(value, pa.float64())})
    run_over(connection, "INSERT INTO points BY NAME FROM batch_rows", batch_rows=table)


class OwnersHistory(history.History):
    """Asks the file itself."""

    def __init__(self, connection: Connection) -> None:
        super().__init__("http://history", "")
        self.asked: list[str] = []
        self._connection = connection

    async def _answer(self, name: str, parameters: dict[str, Any]) -> bytes:
        self.asked.append(name)
        sink = pa.BufferOutputStream()
        found = self._connection.sql(load("history")[name].text, params=parameters).to_arrow_table()
        with pa.ipc.new_stream(sink, found.schema) as stream:
            stream.write_table(found)
        return bytes(sink.getvalue())


def same(found: Sequence[Bucket], expected: Sequence[Bucket]) -> bool:
    """Whether buckets are the same; a mean to the last bits, as the order of a sum is nobody's promise."""
    return len(found) == len(expected) and all(
        (one.bucket, one.first_step, one.last_step, one.timestamp, one.minimum, one.maximum, one.points)
        == (
            other.bucket,
            other.first_step,
            other.last_step,
            other.timestamp,
            other.minimum,
            other.maximum,
            other.points,
        )
        and one.mean == (None if other.mean is None else pytest.approx(other.mean))
        and one.last == pytest.approx(other.last, nan_ok=True)
        for one, other in zip(found, expected, strict=True)
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@example(points=[(0, 0, 2.5), (0, 0, -1.5), (1, 0, math.nan), (1, 0, math.inf), (2, 1, 0.5), (2, 0, 1.5)], buckets=3)
@given(points=POINTS, buckets=st.sampled_from([1, 2, 7, 100]))
def test_points_are_cut_as_the_statement_cuts_them(connection: Connection, points: Points, buckets: int) -> None:
    store(connection, points)
    asked = {"run_id": "run", "key": "loss", "buckets": buckets}
    expected = [Bucket(*row) for row in connection.execute(load("history")["curve"].text, asked).fetchall()]
    step, timestamp, value = map(list, zip(*points, strict=True))
    found = cut(np.array(step, np.int64), np.array(timestamp, np.int64), np.array(value, np.float64), buckets)
    assert same(found, expected), (found, expected)
    several = {"run_ids": ["other", "run"], "keys": ["loss"], "buckets": buckets}
    both = connection.execute(load("history")["curves"].text, several).fetchall()
    assert same([Bucket(*row[2:]) for row in both if row[0] == "run"], expected), both


@pytest.mark.parametrize(("points", "asked"), [(SHORT_POINTS, 1), (SHORT_POINTS + 1, 2)])
async def test_a_long_curve_is_cut_where_it_lies(connection: Connection, points: int, asked: int) -> None:
    store(connection, [(number, number, number + 0.5) for number in range(points)])
    owners = OwnersHistory(connection)
    first, last = await curve(owners, "run", "loss", buckets=2)
    assert owners.asked == ["curve_points", "curve"][:asked]
    assert (first.points + last.points, first.first_step, last.last_step) == (points, 0, points - 1)
    assert (first.minimum, last.last) == (0.5, points - 0.5)


async def test_a_curve_that_is_not_there_has_no_buckets(connection: Connection) -> None:
    assert await curve(OwnersHistory(connection), "run", "unheard-of", buckets=5) == ()
