"""Named statements: parsing, positions, and that every file is well formed."""

import re

import pytest

from runtide_queries.statements import load, parse

FILES = (
    "experiments",
    "runs",
    "models",
    "deployments",
    "operations",
    "history",
    "past",
    "search",
    "logged_model_search",
    "artifacts",
)


def test_parameters_become_positions_by_first_use() -> None:
    found = parse("-- name: one\nSELECT $b, $a, $b\n\n-- name: two\nSELECT 1\n")
    assert found["one"].positional == "SELECT $1, $2, $1"
    assert found["one"].parameters == ("b", "a")
    assert found["one"].arguments({"a": 1, "b": 2}) == [2, 1]
    assert found["two"].text == "SELECT 1"


@pytest.mark.parametrize("given", [{}, {"a": 1, "b": 2}, {"b": 1}])
def test_exactly_the_parameters_must_be_given(given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="one takes"):
        parse("-- name: one\nSELECT $a")["one"].arguments(given)


def test_a_name_may_be_used_once() -> None:
    with pytest.raises(ValueError, match="named twice"):
        parse("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_statements_without_a_semicolon(file: str) -> None:
    statements = load(file)
    assert statements
    code = {name: re.sub(r"--.*", "", statement.text) for name, statement in statements.items()}
    assert not [name for name, text in code.items() if ";" in text]
