"""One rule makes legal names of whatever frameworks call their metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide.integrations.metric_names import MetricNames, legal_name
from runtide.integrations.params import flat, param_text
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.limits import MAX_KEY_LENGTH, check_key, check_param_value

ANY_NAME = st.text() | st.text(alphabet="./@[]ab -:_", max_size=300)


@pytest.mark.parametrize(
    ("given_name", "legal"),
    [
        ("ndcg@5", "ndcg_at_5"),
        ("loss[0]", "loss_0_"),
        ("train/loss", "train/loss"),
        ("validation_0-rmse", "validation_0-rmse"),
        ("top 5: accuracy.", "top 5: accuracy."),
        ("f1 (macro)", "f1 _macro_"),
        ("/a//b/", "a/b"),
        ("a/../b/.", "a/__/b/_"),
        ("..hidden", "__hidden"),
        ("", "_"),
        ("//", "_"),
        ("Verlust für", "Verlust für"),
        (("train", 1), "__train__ 1_"),
        ("m" * 251, "m" * 233 + "-0a88c197d79a1c80"),
    ],
)
def test_the_rule(given_name: object, legal: str) -> None:
    assert legal_name(given_name) == legal


@given(ANY_NAME)
def test_every_name_becomes_one_that_may_be_logged_and_stays_it(name: str) -> None:
    legal = legal_name(name)
    assert check_key(legal, "Metric") == legal
    assert legal_name(legal) == legal


@given(ANY_NAME)
def test_a_legal_name_is_left_alone(name: str) -> None:
    try:
        check_key(name, "Metric")
    except InvalidRequest:
        return
    assert legal_name(name) == name


def test_over_long_names_that_begin_alike_stay_apart() -> None:
    one, other = (legal_name("m" * 300 + end) for end in "ab")
    assert one != other
    assert len(one) == len(other) == MAX_KEY_LENGTH


def test_two_names_that_become_one_are_found() -> None:
    names = MetricNames()
    assert names.legal("loss[0]") == names.legal("loss_0_") == "loss_0_"
    assert names.same_as("loss[0]") is None
    assert names.same_as("loss_0_") == "loss[0]"


def test_nested_params_are_flat() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2}, "e": {}}, "f": [1]}, "x/") == {
        "x/a": 1,
        "x/b/c/d": 2,
        "x/b/e": {},
        "x/f": [1],
    }


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=100), st.integers(0, 200))
def test_any_text_becomes_a_param(text: str, times: int) -> None:
    found = param_text(text * times)
    assert check_param_value("p", found) == found


def test_a_cut_param_says_so_and_a_function_is_its_name() -> None:
    assert param_text("x" * 7000) == "x" * 5940 + "... [cut: 7000 characters]"
    assert param_text(test_the_rule) == "test_the_rule"
    assert param_text(float) == "float"
    assert param_text(None) == "None"
