"""The filter and order grammar, page tokens, and that no text of a user gets into a statement."""

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runtide_queries.pages import decode_token, encode_token
from runtide_queries.search import RunSearch
from runtide_queries.search.grammar import Clause, Field, Order, parse_filter, parse_order
from runtide_queries.search.runs import compile_search
from runtide_schemas.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", ()),
        ("   ", ()),
        ("metrics.loss < 0.5", (Clause(Field("metric", "loss"), "<", 0.5),)),
        ("metric.a/b-c >= -1e-3", (Clause(Field("metric", "a/b-c"), ">=", -0.001),)),
        ("params.lr = '0.1'", (Clause(Field("param", "lr"), "=", "0.1"),)),
        ('params."learning rate" != "x"', (Clause(Field("param", "learning rate"), "!=", "x"),)),
        ("tags.`a b` LIKE 'x%'", (Clause(Field("tag", "a b"), "LIKE", "x%"),)),
        ("tag.a ilike 'X' and status = 'FINISHED'", (Clause(Field("tag", "a"), "ILIKE", "X"), Clause(Field("attribute", "status"), "=", "FINISHED"))),
        ("attributes.start_time > 5 AND end_time<>7", (Clause(Field("attribute", "start_time"), ">", 5.0), Clause(Field("attribute", "end_time"), "!=", 7.0))),
        ("params.p = 'it''s'", (Clause(Field("param", "p"), "=", "it's"),)),
        ("metrics.m=1", (Clause(Field("metric", "m"), "=", 1.0),)),
        ("params.a = 'x AND y'", (Clause(Field("param", "a"), "=", "x AND y"),)),
    ],
)  # fmt: skip
def test_filters_are_read(text: str, clauses: tuple[Clause, ...]) -> None:
    assert parse_filter(text) == clauses


@pytest.mark.parametrize(
    "text",
    [
        "metrics.loss", "metrics.loss <", "metrics.loss < 'x' OR metrics.loss > 1", "metrics.loss < 1 AND", "AND", "<",
        "metrics. < 1", "nothing.x = 1", "(metrics.loss < 1)", "metrics.loss < 1 metrics.loss > 2", "params.a = `x`",
        "metrics.loss < loss", "params.a = 'x", 'params."a = 1', "; DROP TABLE runs", "metrics.a < 1 AND AND metrics.b < 1",
        "x" * 20_000, " AND ".join(["metrics.a < 1"] * 51),
    ],
)  # fmt: skip
def test_other_text_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_filter(text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "filter_text",
    [
        "unknown = 'x'",
        "metrics.a LIKE 'x'",
        "metrics.a = 'x'",
        "params.a = 1",
        "params.a > 'x'",
        "start_time = '1'",
        "status < 'x'",
    ],
)
def test_what_does_not_go_together_is_refused(filter_text: str) -> None:
    with pytest.raises(InvalidRequest):
        compile_search(RunSearch(filter=filter_text))


def test_orders_are_read() -> None:
    assert parse_order("metrics.loss") == Order(Field("metric", "loss"), True)
    assert parse_order('params."a b" desc') == Order(Field("param", "a b"), False)
    for wrong in ("", "metrics.loss DOWN", "metrics.loss DESC DESC", "1"):
        with pytest.raises(InvalidRequest):
            parse_order(wrong)


def test_the_same_field_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="duplicate"):
        compile_search(RunSearch(order_by=("name", "run_name DESC")))


@given(some.text(string.printable, max_size=60))
def test_any_filter_is_read_or_refused(text: str) -> None:
    try:
        compile_search(RunSearch(filter=text))
    except InvalidRequest:
        return


@given(value=some.text(max_size=30), key=some.text(string.ascii_letters + " ;-'$%()", min_size=1, max_size=30))
def test_what_users_write_is_bound_and_never_part_of_the_statement(value: str, key: str) -> None:
    marked = f"QQ{value}QQ".replace("'", "''")
    search = RunSearch(
        filter=f"params.\"QQ{key}\" = '{marked}' AND metrics.\"QQ{key}\" < 12345.5", order_by=(f'metrics."QQ{key}" DESC',),
        name="QQname", id_prefix="QQid", status="QQstatus", experiment_ids=("QQexperiment",),
    )  # fmt: skip
    query = compile_search(search)
    text = query.text(10)
    assert "QQ" not in text
    assert "12345" not in text
    assert f"QQ{value}QQ" in query.arguments
    assert f"QQ{key}" in query.arguments


def test_tokens_come_back_as_they_were() -> None:
    token = encode_token("scope", ["ä", 1, 2.5])
    assert decode_token("scope", token, [str, int, float]) == ["ä", 1, 2.5]


@pytest.mark.parametrize(
    "token",
    [
        "x", "", "!!!!", "e30", "é", "A" * 20_000, encode_token("other", ["a"]), encode_token("scope", []), encode_token("scope", [1]),
        encode_token("scope", [True]), encode_token("scope", [["a"]]), base64.urlsafe_b64encode(json.dumps({"a": 1}).encode()).decode(),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
    ],
)  # fmt: skip
def test_other_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidRequest, match="Invalid page token"):
        decode_token("scope", token, [str])
