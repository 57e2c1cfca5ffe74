"""The filter and order grammar, page tokens, and that no text of a user gets into a statement."""

import base64
import json
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runtide_queries.pages import decode_token, encode_token
from runtide_queries.search import (
    ExperimentSearch,
    LoggedModelOrder,
    LoggedModelSearch,
    ModelVersionSearch,
    OnDataset,
    RegisteredModelSearch,
    RunSearch,
    experiments,
    logged_models,
    model_versions,
    registered_models,
    runs,
)
from runtide_queries.search.grammar import (
    Clause,
    Either,
    Every,
    Expression,
    Field,
    Negation,
    Order,
    parse_filter,
    parse_order,
)
from runtide_queries.search.runs import compile_search
from runtide_schemas.errors import InvalidRequest


def metric(key: str, comparator: str, value: float) -> Clause:
    return Clause(Field("metrics", key), comparator, value)


A, B, C = metric("a", "<", 1), metric("b", "<", 2), metric("c", "<", 3)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("   ", None),
        ("metrics.loss < 0.5", metric("loss", "<", 0.5)),
        ("metric.a/b-c >= -1e-3", Clause(Field("metric", "a/b-c"), ">=", -0.001)),
        ("params.lr = '0.1'", Clause(Field("params", "lr"), "=", "0.1")),
        ('params."learning rate" != "x"', Clause(Field("params", "learning rate"), "!=", "x")),
        ("tags.`a b` LIKE 'x%'", Clause(Field("tags", "a b"), "LIKE", "x%")),
        ("`tags`.`a.b` LIKE 'x%'", Clause(Field("tags", "a.b"), "LIKE", "x%")),
        ("tags.mlflow.source.name = 'x'", Clause(Field("tags", "mlflow.source.name"), "=", "x")),
        ("tag.a ilike 'X' and status = 'FINISHED'", Every((Clause(Field("tag", "a"), "ILIKE", "X"), Clause(Field("", "status"), "=", "FINISHED")))),
        ("attributes.start_time > 5 AND end_time<>7", Every((Clause(Field("attributes", "start_time"), ">", 5), Clause(Field("", "end_time"), "!=", 7)))),
        ("`run name` = 'a'", Clause(Field("", "run name"), "=", "a")),
        ("params.p = 'it\'\'s'", Clause(Field("params", "p"), "=", "it's")),
        ('params.p = "it\'s"', Clause(Field("params", "p"), "=", "it's")),
        ("metrics.m=1", metric("m", "=", 1)),
        ("params.a = 'x AND y'", Clause(Field("params", "a"), "=", "x AND y")),
        ("run_id In ('a', \"b\",)", Clause(Field("", "run_id"), "IN", ("a", "b"))),
        ("dataset.name not in ('a')", Clause(Field("dataset", "name"), "NOT IN", ("a",))),
        ("tags.a is null", Clause(Field("tags", "a"), "IS NULL")),
        ("tags.a IS  NOT NULL", Clause(Field("tags", "a"), "IS NOT NULL")),
        ("metrics.a<1 AND metrics.b<2 OR metrics.c<3", Either((Every((A, B)), C))),
        ("metrics.a<1 and (metrics.b<2 or metrics.c<3)", Every((A, Either((B, C))))),
        ("NOT metrics.a<1 AND NOT (metrics.b<2 OR metrics.c<3)", Every((Negation(A), Negation(Either((B, C)))))),
        ("((metrics.a < 1))", A),
    ],
)  # fmt: skip
def test_filters_are_read(text: str, tree: Expression | None) -> None:
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "metrics.loss", "metrics.loss <", "metrics.loss < 'x' OR", "metrics.loss < 1 AND", "AND", "<", "NOT", "()", "(", ")",
        "(metrics.loss < 1", "metrics.loss < 1)", "metrics.loss < 1 metrics.loss > 2", "metrics.a 1", "1 < metrics.a", "'a' = params.a",
        "params.a = 'x", 'params."a = 1', "params.`a = 1", "; DROP TABLE runs", "metrics.a < 1; metrics.b > 2", "metrics.a < 1 AND AND metrics.b < 1",
        "run_id IN 'a'", "run_id IN ()", "run_id IN (1)", "run_id IN (,)", "run_id IN ('a' 'b')", "run_id IN ('a'", "run_id IN (", "run_id NOT ('a')",
        "run_id IN (" + ",".join(["'a'"] * 1001) + ")", "tags.a IS", "tags.a IS NOT", "tags.a RLIKE 'x'", "tags.a BETWEEN 1 AND 2",
        "x" * 100_000, "'" * 60_001, '"' * 60_001, "`" * 60_001, "(" * 60_000, "(" * 21 + "metrics.a < 1" + ")" * 21,
        "NOT " * 15_000 + "metrics.a < 1", " AND ".join(["metrics.a < 1"] * 101), " OR ".join(["metrics.a < 1"] * 4_000),
        "metrics.a > 1e999", "metrics.a > -1e999", "metrics.a > " + "9" * 1_000_000, "metrics.a > " + "9" * 60_000, "metrics.a > " + "9" * 400,
        "params.a = '\x00'", "params.a = '\ud800'", "params.`\udfff` = 'a'", "\x00", "a." * 30_000, "1" * 60_000 + "a",
    ],
)  # fmt: skip
def test_other_text_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compile_search(RunSearch(filter=text))
    assert len(str(caught.value)) < 800
    assert caught.value.code == "INVALID_PARAMETER_VALUE"


def test_what_is_within_the_bounds_is_read() -> None:
    assert parse_filter("(" * 20 + "metrics.a < 1" + ")" * 20) == A
    assert isinstance(parse_filter(" OR ".join(["metrics.a < 1"] * 100)), Either)
    assert parse_filter("params.a = '" + "x" * 6_000 + "'")
    assert parse_filter("run_id IN (" + ",".join([f"'{number:032}'" for number in range(1_000)]) + ")")


REFUSALS: dict[str, tuple[Callable[[str], object], dict[str, str]]] = {
    "runs": (
        lambda text: runs.compile_search(RunSearch(filter=text)),
        {
            "unknown = 'x'": "Invalid attribute key 'unknown' specified",
            "nothing.x = 1": "Invalid entity type 'nothing'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']",
            "metrics.a LIKE 1": "Invalid comparator 'LIKE' not one of",
            "metrics.a = 'x'": "Expected numeric value type for metric. Found 'x'",
            "metrics.a < loss": "Expected numeric value type for metric. Found loss",
            "params.a = 1": "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 1",
            "params.a = LR": "Parameter value is either not quoted or unidentified quote types used for string value LR",
            "params.a = `x`": "Parameter value is either not quoted",
            "params.a > 'x'": "Invalid comparator '>' not one of",
            "params.a == 'x'": "Invalid comparator '==' not one of",
            "params.a IN ('x')": "Expected a quoted string value for parameter. Got value ('x' )",
            "status IN ('x')": "attributes support comparison with a list of quoted string values",
            "start_time = '1'": "Expected numeric value type for numeric attribute: start_time. Found '1'",
            "start_time > 99999999999999999999": "does not fit 64 bits",
            "start_time > 1e300": "does not fit 64 bits",
            "status < 'x'": "Invalid comparator '<' not one of",
            "status = 1": "Expected a quoted string value for attributes. Got value 1",
            "dataset.size = 'x'": "Invalid dataset key 'size' specified",
            "dataset.name = 1": "Expected a quoted string value for dataset attributes. Got value 1",
            "dataset.name > 'x'": "Invalid comparator '>'",
            "metrics.a IS NULL": "IS NULL / IS NOT NULL is only supported for params and tags, not for 'metric' 'a'",
            "1 < metrics.a": "Invalid comparison clause. Expected 'Identifier' found '1'",
            "metrics.a < 1; metrics.b > 2": "Search filter contained multiple expression",
            "metrics.a < 1 XOR metrics.b > 2": "Invalid clause(s) in filter string: 'XOR'",
            "run_id IN ()": "expected a non-empty list of string values, but got empty list",
            "run_id IN ('a' 'b')": "expected a non-empty list of string values, but got ill-formed list.",
        },
    ),
    "experiments": (
        lambda text: experiments.compile_search(ExperimentSearch(filter=text)),
        {
            "metrics.a = 1": "Invalid entity type 'metrics'. Valid values are ['attribute', 'tag']",
            "nothing = 'x'": "Invalid attribute key 'nothing' specified",
            "name IS NULL": "IS NULL / IS NOT NULL is only supported for tags, not for 'attribute' 'name'",
            "creation_time > 1.5": "Invalid value for numeric attribute 'creation_time': '1.5'",
            "experiment_id = 'abc'": "Invalid experiment ID 'abc'. Experiment ID must be a valid integer.",
            "experiment_id LIKE '1%'": "Invalid experiment ID '1%'",
            "experiment_id LIKE '1'": "Invalid comparator 'LIKE'",
        },
    ),
    "registered models": (
        lambda text: registered_models.compile_search(RegisteredModelSearch(filter=text)),
        {
            "run_id = 'x'": "Invalid attribute key 'run_id' specified",
            "name > 'x'": "Invalid comparator '>'",
            "tags.a IS NULL": "Invalid comparison clause. Expected 3 tokens found 2",
            "tags.a IN ('x')": "Expected a quoted string value for tag",
        },
    ),
    "model versions": (
        lambda text: model_versions.compile_search(ModelVersionSearch(filter=text)),
        {
            "version_number = 1.5": "Invalid value for numeric attribute 'version_number': '1.5'",
            "version_number LIKE 1": "Invalid comparator 'LIKE'",
            "source_path IN ('x')": "attributes support comparison with a list",
        },
    ),
    "logged models": (
        lambda text: logged_models.compile_search(LoggedModelSearch(filter=text)),
        {
            "metric.a = 1": "Invalid entity type: 'metric'. Expected one of",
            "metrics.a LIKE 1": "Invalid comparison operator for metrics.a: 'LIKE'. Expected one of (=, !=, >, >=, <, <=).",
            "name > 'x'": "Invalid comparison operator for attributes.name: '>'",
            "nothing = 'x'": "Invalid attribute key 'nothing'",
            "name = 'x' name = 'y'": "Invalid filter string: \"name = 'x' name = 'y'\". Invalid clause(s)",
        },
    ),
}


@pytest.mark.parametrize(
    ("entity", "text"), [(entity, text) for entity, (_, texts) in REFUSALS.items() for text in texts]
)
def test_what_does_not_go_together_is_refused_in_mlflows_words(entity: str, text: str) -> None:
    ask, texts = REFUSALS[entity]
    with pytest.raises(InvalidRequest) as caught:
        ask(text)
    assert texts[text] in str(caught.value)


ORDER_REFUSALS: dict[str, Callable[[], object]] = {
    "Invalid order_by clause 'metrics.loss DESC DESC'. Could not be parsed": lambda: parse_order(
        "metrics.loss DESC DESC"
    ),
    "Invalid ordering key in order_by clause 'metrics.loss DOWN'": lambda: parse_order("metrics.loss DOWN"),
    "Invalid attribute key 'x' specified": lambda: runs.compile_search(RunSearch(order_by=("x",))),
    "Invalid order_by entity: dataset": lambda: runs.compile_search(RunSearch(order_by=("dataset.name",))),
    "Invalid order_by entity: tag": lambda: experiments.compile_search(ExperimentSearch(order_by=("tags.a",))),
    "Invalid order by key 'creation_timestamp' specified. Valid keys are": lambda: registered_models.compile_search(
        RegisteredModelSearch(order_by=("name", "creation_timestamp"))
    ),
    "`order_by` contains duplicate fields: ['timestamp', 'last_updated_timestamp']": lambda: (
        registered_models.compile_search(RegisteredModelSearch(order_by=("timestamp", "last_updated_timestamp")))
    ),
    "Invalid order by field name: size": lambda: logged_models.compile_search(
        LoggedModelSearch(order_by=(LoggedModelOrder(field_name="size"),))
    ),
    "Only metrics are supported": lambda: logged_models.compile_search(
        LoggedModelSearch(order_by=(LoggedModelOrder(field_name="params.a"),))
    ),
    "`dataset_name` in the `datasets` clause must be specified.": lambda: logged_models.compile_search(
        LoggedModelSearch(datasets=(OnDataset(name=""),))
    ),
}


@pytest.mark.parametrize("text", ORDER_REFUSALS)
def test_orders_that_cannot_be_are_refused_in_mlflows_words(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ORDER_REFUSALS[text]()
    assert text in str(caught.value)


def test_orders_are_read() -> None:
    assert parse_order("metrics.loss") == Order(Field("metrics", "loss"), True)
    assert parse_order('params."a b" desc') == Order(Field("params", "a b"), False)
    for wrong in ("", "metrics.loss DOWN", "metrics.loss DESC DESC", "1"):
        with pytest.raises(InvalidRequest):
            parse_order(wrong)


def test_the_same_field_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="duplicate"):
        compile_search(RunSearch(order_by=("name", "run_name DESC")))


@given(
    some.text(string.printable, max_size=60)
    | some.lists(
        some.sampled_from(["(", ")", "NOT", "AND", "OR", "IN", "IS", "NULL", ",", "metrics.a", "run_id", "tags.a", "<", "=", "1", "'x'", "LIKE"]), max_size=14
    ).map(" ".join)
)  # fmt: skip
def test_any_filter_is_read_or_refused(text: str) -> None:
    try:
        compile_search(RunSearch(filter=text))
    except InvalidRequest:
        return


@given(
    value=some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    key=some.text(string.ascii_letters + " ;-'$%()", min_size=1, max_size=30),
)
def test_what_users_write_is_bound_and_never_part_of_the_statement(value: str, key: str) -> None:
    marked = f"QQ{value}QQ".replace("'", "''")
    search = RunSearch(
        filter=f"params.\"QQ{key}\" = '{marked}' AND metrics.\"QQ{key}\" < 12345.5", order_by=(f'metrics."QQ{key}" DESC',),
        name="QQname", id_prefix="QQid", status="QQstatus", experiment_ids=("QQexperiment",),
    )  # fmt: skip
    query = compile_search(search)
    text = query.text("search", "search_runs", 10)
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
