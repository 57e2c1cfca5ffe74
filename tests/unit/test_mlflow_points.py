"""A batch's metrics are taken as they are only where a closer look finds the same."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runtide_queries.commands import Points
from runtide_queries.server.mlflow.calls import Fields
from runtide_queries.server.mlflow.validation import checked_point, plain_points
from runtide_schemas.errors import InvalidRequest

GOOD = {"key": "loss", "value": 0.5, "timestamp": 1_000, "step": 3}
ODD: list[Any] = [None, True, "1", "NaN", 1.0, math.nan, 0, -1, 2**62, 2**63, -(2**63), -(2**63) - 1, 10**400, [], {}]
NAMES: list[Any] = ["a", "a/b", "../a", "", "a" * 251, "a*b", "./a", *ODD]

metrics = some.fixed_dictionaries(
    {},
    optional={
        "key": some.sampled_from(NAMES),
        "value": some.sampled_from([*ODD, 0.25]),
        "timestamp": some.sampled_from(ODD),
        "step": some.sampled_from(ODD),
        "model_id": some.sampled_from([None, "", "m-1", 7]),
        "dataset_name": some.just("d"),
    },
)


def closely(given: list[dict[str, Any]]) -> Points:
    return Points.of([checked_point(Fields(one)) for one in given])


def same(one: Points, other: Points) -> bool:
    """Compare types too, and NaN as itself."""
    return repr(one) == repr(other)


@given(some.lists(metrics, max_size=3))
def test_a_closer_look_finds_the_same(batch: list[dict[str, Any]]) -> None:
    found = plain_points([GOOD, *batch])
    if found is not None:
        assert same(found, closely([GOOD, *batch]))


@pytest.mark.parametrize("value", [0.5, 1, -1, math.nan, math.inf, 2**63 - 1])
def test_the_usual_is_taken_as_it_is(value: float) -> None:
    batch = [GOOD, GOOD | {"key": "a/b", "value": value, "step": -(2**63)}]
    found = plain_points(batch)
    assert found is not None
    assert (found.keys, found.timestamps, found.steps) == (["loss", "a/b"], [1_000, 1_000], [3, -(2**63)])
    assert same(found, closely(batch))


@pytest.mark.parametrize(
    "odd",
    [
        {"key": "../a"},
        {"key": 5},
        {"key": None},
        {"value": "NaN"},
        {"value": True},
        {"value": None},
        {"value": 2**63},
        {"value": 10**400},
        {"timestamp": -1},
        {"timestamp": 2**63},
        {"timestamp": "5"},
        {"step": 2**63},
        {"step": 1.0},
        {"step": None},
        {"model_id": "m-1"},
        {"modelId": "m-1"},
    ],
)
def test_the_unusual_is_looked_at_closely(odd: dict[str, Any]) -> None:
    assert plain_points([GOOD, GOOD | odd]) is None
    assert plain_points([GOOD | odd, GOOD | {"value": math.nan}]) is None


@pytest.mark.parametrize("missing", list(GOOD))
def test_so_is_what_lacks_a_field(missing: str) -> None:
    lacking = {name: value for name, value in GOOD.items() if name != missing}
    assert plain_points([GOOD, lacking]) is None
    if missing == "step":
        assert closely([lacking]).steps == [0]
        return
    with pytest.raises(InvalidRequest, match="Missing value for required parameter"):
        closely([lacking])
