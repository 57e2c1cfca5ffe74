"""What judges answers judges right: each shape refuses what does not fit it."""

import re
from typing import Any

import pytest

from tests.conformance.mlflow_rest.shapes import ANYTHING, Each, Maybe, Named, Unordered, mismatches, with_others

FITS = [
    (int, 1),
    (str, "x"),
    ("x", "x"),
    (1.0, 1.0),
    ({"a": int, "b": Maybe(str)}, {"a": 1}),
    (with_others({"a": int}), {"a": 1, "z": 2}),
    ([int, str], [1, "x"]),
    (Each(int), []),
    (Unordered((1, str)), ["x", 1]),
    (re.compile("^a"), "abc"),
    (Named("even", lambda value: value % 2 == 0), 4),
    (ANYTHING, None),
]
DOES_NOT_FIT = [
    (int, True),
    (int, "1"),
    (int, 1.0),
    (float, 1),
    ("1", 1),
    (1.0, 1),
    ({"a": int}, {}),
    ({"a": int}, {"a": 1, "b": 2}),
    ({"a": Maybe(int)}, {"a": "x"}),
    ({"a": {"b": 1}}, {"a": {"b": 2}}),
    ({}, []),
    ({}, None),
    ([int], [1, 2]),
    ([1, 2], [2, 1]),
    ([int], {"a": 1}),
    (Each(int), [1, "x"]),
    (Unordered((1, 2)), [1, 1]),
    (Unordered((1, str)), [1, 2]),
    (re.compile("^a"), "bc"),
    (re.compile("^1"), 1),
    (Named("even", lambda value: value % 2 == 0), 3),
]


@pytest.mark.parametrize(("shape", "value"), FITS)
def test_what_fits_has_no_mismatch(shape: Any, value: Any) -> None:
    assert not list(mismatches(shape, value))


@pytest.mark.parametrize(("shape", "value"), DOES_NOT_FIT)
def test_what_does_not_fit_is_told(shape: Any, value: Any) -> None:
    assert list(mismatches(shape, value))
