"""How a call of MLflow's API is read: proto3's rules for JSON, and MLflow's words for what is missing or wrong."""

import math
from typing import Any

import pytest

from runtide_queries.server.mlflow.calls import Fields, parsed
from runtide_schemas.errors import InvalidRequest


@pytest.mark.parametrize(
    ("value", "found"),
    [(3, 3), ("12", 12), ("-7", -7), (4.0, 4), (-(2**63), -(2**63)), (None, 0), ("+5", 5), ("1.0", 1), ("1e2", 100)],
)
def test_whole_numbers(value: Any, found: int) -> None:
    assert Fields({"n": value}).integer("n") == found


@pytest.mark.parametrize(
    ("value", "found"), [("1e+05", 100_000), ("1.7e+12", 1_700_000_000_000), ("1.700000000123e12", 1_700_000_000_123)]
)
def test_whole_numbers_as_r_writes_them(value: str, found: int) -> None:
    assert Fields({"n": value}).integer("n") == found


@pytest.mark.parametrize("value", ["1e-05", "15e-1", "1e99", "1e19", "e5", "1e", "1e999999999", "1.5e0"])
def test_what_has_an_exponent_and_is_no_whole_number(value: str) -> None:
    with pytest.raises(InvalidRequest, match="parameter 'n'"):
        Fields({"n": value}).integer("n")


@pytest.mark.parametrize(
    "value", ["x", "1.5", 1.5, True, 2**63, "9" * 19, "9" * 100_000, "1e99", "1_0", [], {}, math.inf, math.nan, "٣"]
)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^Invalid value .* for parameter 'n' supplied:  Hint: Value was of type"):
        Fields({"n": value}).integer("n")


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1.0), (0.5, 0.5), (True, 1.0), ("2.5", 2.5), ("Infinity", math.inf), ("-Infinity", -math.inf), (None, 0.0)],
)
def test_doubles(value: Any, found: float) -> None:
    assert Fields({"x": value}).number("x") == found


def test_nan_is_a_double() -> None:
    assert math.isnan(Fields({"x": "NaN"}).number("x"))
    assert math.isnan(Fields(parsed(b'{"x": NaN}')).number("x"))


@pytest.mark.parametrize("value", ["", "x", [], {}, 10**400])
def test_what_is_no_double(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"parameter 'x'"):
        Fields({"x": value}).number("x")


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_value_of_a_required_field_is_a_missing_one(value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Fields({"name": value}).text("name", required=True)
    assert str(raised.value) == (
        "Missing value for required parameter 'name'. See the API docs for more information about request parameters."
    )


def test_the_value_that_is_wrong_is_shown_as_json() -> None:
    with pytest.raises(InvalidRequest) as raised:
        Fields({"name": {"b": 1, "a": [2]}}).text("name")
    assert str(raised.value) == (
        """Invalid value {"a":[2],"b":1} for parameter 'name' supplied:  Hint: Value was of type 'dict'. """
        "See the API docs for more information about request parameters."
    )


def test_a_field_of_an_object_is_named_with_its_place() -> None:
    fields = Fields({"metrics": [{"key": "a"}, {"key": 3}]})
    with pytest.raises(InvalidRequest, match=r"'metrics\[1\]\.key'"):
        [one.text("key") for one in fields.objects("metrics")]


@pytest.mark.parametrize(("value", "found"), [(True, True), ("TRUE", True), ("false", False), (None, False)])
def test_truth_values(value: Any, found: bool) -> None:
    assert Fields({"b": value}).flag("b") is found


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"3", b'"x"', b"{", b"[" * 200_000, b"\xff\xfe", b'{"a":' + b"9" * 10_000 + b"}"]
)
def test_what_is_no_json_object_has_no_fields(body: bytes) -> None:
    assert parsed(body) == {}


def test_json_that_was_encoded_twice_is_read() -> None:
    assert parsed(b'"{\\"run_id\\": \\"a\\"}"') == {"run_id": "a"}


def test_lists_must_hold_what_they_should() -> None:
    fields = Fields(
        {"texts": ["a", 1], "objects": [{}, []], "pairs": [{"key": "a", "value": "1"}, {"key": "a"}], "none": None}
    )
    for read in (lambda: fields.texts("texts"), lambda: fields.objects("objects"), lambda: fields.texts("pairs")):
        with pytest.raises(InvalidRequest):
            read()
    assert fields.pairs("pairs") == {"a": ""}
    assert fields.texts("none") == []


def test_a_field_may_bear_its_name_in_camel_case() -> None:
    fields = Fields(parsed(b'{"runId": "r", "maxResults": "7", "viewTypes": ["a"]}'))
    assert fields.text("run_id", required=True) == "r"
    assert ("max_results" in fields, fields.integer("max_results")) == (True, 7)
    assert fields.texts("view_types") == ["a"]


@pytest.mark.parametrize("others", ["b", "a", None])
def test_a_field_that_is_given_by_both_names_is_refused(others: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^Request specifies both 'run_id' and 'runId'; provide only one of them"):
        Fields({"run_id": "a", "runId": others}).text("run_id")


@pytest.mark.parametrize("body", [rb'{"key": "\ud800"}', rb'{"\udfff": 1}', rb'"{\"key\": \"\ud800\"}"'])
def test_half_of_a_surrogate_pair_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        parsed(body)


def test_an_enumeration_is_named_or_numbered() -> None:
    choices = {"ONE": 1, "TWO": 2}
    found = [Fields({"x": value}).choice("x", choices, 0) for value in ("TWO", 2, "2", None)]
    assert found == [2, 2, 2, 0]
    for value in ("THREE", "", "3", 0, True, 2.0, "-1"):
        with pytest.raises(InvalidRequest):
            Fields({"x": value}).choice("x", choices, 0)
