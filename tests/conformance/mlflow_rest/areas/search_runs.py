"""Searches of runs: the grammar of filters and orders, views, pages."""

from dataclasses import replace
from typing import Any

from tests.conformance.mlflow_rest.case import Case, Ours, bad, call, differs, ok
from tests.conformance.mlflow_rest.entities import EMPTY, run_info, tag
from tests.conformance.mlflow_rest.library import LIBRARY
from tests.conformance.mlflow_rest.shapes import Each, Unordered, with_others

SEARCH = "POST runs/search"
WRONG_WAY = "OR and parentheses are served by ours: MLflow refuses them"


def names(*wanted: str) -> dict[str, Any]:
    """Return the shape of a page with runs of these names, in this order."""
    return (
        with_others({"runs": [with_others({"info": with_others({"run_name": name})}) for name in wanted]})
        if wanted
        else EMPTY
    )


def any_order(*wanted: str) -> dict[str, Any]:
    """Return the shape of a page with runs of these names."""
    return with_others({"runs": Unordered(tuple(names(*wanted)["runs"]))}) if wanted else EMPTY


def _found(name: str, filter_: str, wanted: str, ours: Ours | None = None) -> Case:
    """The library's runs that a filter finds; ``wanted``: their names, a letter each."""
    return ok(
        f"{name}: {filter_}", SEARCH, {"experiment_ids": ["$library"], "filter": filter_}, any_order(*wanted), ours=ours
    )


def _ordered(order: list[str], wanted: str) -> Case:
    return ok(f"order {order}", SEARCH, {"experiment_ids": ["$library"], "order_by": order}, names(*wanted))


def _refused(name: str, filter_: str, message: str, ours: Ours | None = None) -> Case:
    return bad(
        f"{name}: {filter_[:60]}", SEARCH, {"experiment_ids": ["$library"], "filter": filter_}, message, ours=ours
    )


_METRICS = (
    _found("greater", "metrics.acc > 0.5", "bc"),
    _found("at least", "metrics.acc >= 0.5", "abc"),
    _found("less", "metrics.acc < 0.7", "a"),
    _found("at most", "metrics.acc <= 0.7", "ab"),
    _found("equal", "metrics.acc = 0.7", "b"),
    _found("unequal leaves out those without", "metrics.acc != 0.7", "ac"),
    _found("the latest value counts", "metrics.loss < 0.15", "c"),
    _found("singular", "metric.acc > 0.8", "c"),
    _found("quoted key", "metrics.`val acc` > 1", "b"),
    _found("key in double quotes", 'metrics."val acc" > 1', "b"),
    _found("key with a slash", "metrics.`a/b` = 3", "c"),
    _found("negative number", "metrics.acc > -1", "abc"),
    _found("exponent", "metrics.acc > 5e-1", "bc"),
    _found("nobody has it", "metrics.none > 0", ""),
)
_TEXTS = (
    _found("param", "params.lr = '0.1'", "ab"),
    _found("param in double quotes", 'params.lr = "0.1"', "ab"),
    _found("param unequal", "params.lr != '0.1'", "c"),
    _found("param like", "params.opt LIKE 'ad%'", "a"),
    _found("param like with one letter", "params.opt LIKE 'ad_m'", "a"),
    _found("param like minds case", "params.opt LIKE 'AD%'", ""),
    _found("param ilike does not", "params.opt ILIKE 'AD%'", "a"),
    _found("small letters", "params.opt like 'ad%'", "a"),
    _found("parameter, the long word", "parameters.lr = '0.1'", "ab"),
    _found("parameter, singular", "param.lr = '0.1'", "ab"),
    _found("tag", "tags.team = 'blue'", "ab"),
    _found("tag, singular", "tag.team = 'red'", "c"),
    _found("tag unequal", "tags.team != 'blue'", "c"),
    _found("tag with dots", "tags.`my.tag` = 'x y'", "a"),
    _found("tag with dots, bare", "tags.my.tag = 'x y'", "a"),
    _found("a quote in the value", 'tags.note = "it\'s"', "b"),
    _found("tag is null", "tags.note IS NULL", "acd"),
    _found("tag is not null", "tags.note IS NOT NULL", "b"),
    _found("param is null", "params.lr IS NULL", "d"),
    _found("param is not null", "params.opt IS NOT NULL", "ab"),
    _found("a percent sign matches itself too", "tags.team LIKE '%e%'", "abc"),
)
_ATTRIBUTES = (
    _found("name", "attributes.run_name = 'b'", "b"),
    _found("name, bare", "run_name = 'b'", "b"),
    _found("name with a space", "`run name` = 'b'", "b"),
    _found("name with capitals", "`Run name` LIKE 'b%'", "b"),
    _found("name by its tag", "tags.`mlflow.runName` = 'c'", "c"),
    _found("name unequal", "run_name != 'a'", "bcd"),
    _found("status", "attributes.status = 'FINISHED'", "b"),
    _found("status, another spelling of attributes", "attr.status = 'RUNNING'", "acd"),
    _found("status, a third one", "run.status != 'RUNNING'", "b"),
    _found("start time", "attributes.start_time > 2000", "cd"),
    _found("start time, bare", "start_time <= 2000", "ab"),
    _found("created, its other name", "Created = 3000", "c"),
    _found("end time", "end_time = 2500", "b"),
    _found("user", "user_id = 'ada'", "a"),
    _found("user like", "attributes.user_id LIKE 'b%'", "b"),
    _found("artifacts", "artifact_uri LIKE '%artifacts'", "abcd"),
    _found("id", "run_id = '$a'", "a"),
    _found("ids", "run_id IN ('$a', '$c')", "ac"),
    _found("not these ids", "attributes.run_id NOT IN ('$a', '$c')", "bd"),
    _found("dataset name", "dataset.name = 'iris'", "a"),
    _found("dataset names", "datasets.name IN ('iris', 'wine')", "ab"),
    _found("dataset digest", "dataset.digest LIKE 'd%'", "b"),
    _found("dataset context", "dataset.context = 'train'", "ab"),
    _found("dataset name unequal", "dataset.name != 'iris'", "b"),
)
_TOGETHER = (
    _found("nothing", "", "abcd"),
    _found("and", "metrics.acc >= 0.5 AND params.lr = '0.1'", "ab"),
    _found("and in small letters", "metrics.acc >= 0.5 and params.lr = '0.1' and tags.team = 'blue'", "ab"),
    _found("two on one key", "metrics.acc > 0.5 AND metrics.acc < 0.8", "b"),
    _found(
        "of every kind",
        "metrics.acc > 0 AND params.lr = '0.1' AND tags.team = 'blue' AND status = 'FINISHED' AND dataset.name = 'wine'",
        "b",
    ),
    _found("spaces", "  metrics.acc   >   0.8  ", "c"),
    _found("no spaces", "metrics.acc>0.8", "c"),
    _refused(
        "or",
        "run_name = 'a' OR run_name = 'b'",
        r"Invalid clause\(s\) in filter string: 'OR'",
        differs(WRONG_WAY, answer=any_order("a", "b")),
    ),
    _refused(
        "parentheses",
        "(run_name = 'a')",
        r"Invalid clause\(s\) in filter string",
        differs(WRONG_WAY, answer=any_order("a")),
    ),
)
_BAD = (
    _refused("a value without quotes", "params.lr = 0.1", "(?i)quote|string"),
    _refused("a number in quotes", "metrics.acc > '0.5'", "(?i)numeric|number|Invalid|Expected"),
    _refused("half a comparison", "metrics.acc >", "(?i)Invalid clause|Invalid"),
    _refused("no comparator", "metrics.acc 0.5", "(?i)Invalid clause"),
    _refused("a comparator that nobody knows", "metrics.acc ~ 0.5", "(?i)Invalid"),
    _refused("like on a metric", "metrics.acc LIKE '0.5'", "(?i)Invalid|Expected|numeric"),
    _refused("greater on a param", "params.lr > '0.1'", "(?i)Invalid comparator|not one of"),
    _refused("in on a param", "params.lr IN ('0.1')", "(?i)Invalid comparator|not one of|Expected a quoted string"),
    _refused("an entity that nobody knows", "colour.x = 'a'", "(?i)Invalid entity type 'colour'"),
    _refused(
        "an attribute that nobody knows",
        "attributes.colour = 'a'",
        "Invalid attribute key '(?:colour|attributes\\.colour)'",
    ),
    _refused("a word that nobody knows", "colour = 'a'", "Invalid attribute key 'colour'"),
    _refused("a quote that is open", "params.lr = '0.1", "(?i)Invalid|quote"),
    _refused("an empty list", "run_id IN ()", "(?i)Invalid|empty|non-empty"),
    _refused("two values", "params.lr = '1' '2'", "(?i)Invalid clause"),
    ok(
        "and alone",
        SEARCH,
        {"experiment_ids": ["$library"], "filter": "AND"},
        any_order(*"abcd"),
        ours=differs("a filter that says nothing is a mistake", "INVALID_PARAMETER_VALUE", "(?i)Invalid"),
    ),
    _refused("SQL", "metrics.acc > 0; DROP TABLE runs", "(?i)multiple expression|Invalid"),
)
_ORDERS = (
    _ordered([], "dcba"),
    _ordered(["start_time ASC"], "abcd"),
    _ordered(["attributes.start_time DESC"], "dcba"),
    _ordered(["metrics.acc"], "abcd"),
    _ordered(["metrics.acc ASC"], "abcd"),
    _ordered(["metrics.acc DESC"], "cbad"),
    _ordered(["metrics.odd ASC"], "abdc"),
    _ordered(["metrics.odd DESC"], "badc"),
    _ordered(["params.opt DESC"], "badc"),
    _ordered(["params.lr", "metrics.acc DESC"], "bacd"),
    _ordered(["tags.team", "start_time"], "abcd"),
    _ordered(["run_name DESC"], "dcba"),
    _ordered(["attributes.status", "run_name"], "bacd"),
    _ordered(["metrics.`val acc` desc"], "bdca"),
    bad(
        "an order that nobody knows", SEARCH, {"experiment_ids": ["$library"], "order_by": ["colour.x"]}, "(?i)Invalid"
    ),
    bad(
        "a direction that nobody knows",
        SEARCH,
        {"experiment_ids": ["$library"], "order_by": ["metrics.acc SIDEWAYS"]},
        "(?i)Invalid (ordering key in )?order_by clause",
    ),
    bad(
        "one key twice",
        SEARCH,
        {"experiment_ids": ["$library"], "order_by": ["start_time", "start_time DESC"]},
        "`order_by` contains duplicate fields",
        "INTERNAL_ERROR",
        500,
        ours=differs(
            "a mistake of the caller is no failure of the server", "INVALID_PARAMETER_VALUE", "(?i)duplicate|twice"
        ),
    ),
    bad("an empty order", SEARCH, {"experiment_ids": ["$library"], "order_by": [""]}, "(?i)Invalid order_by clause"),
    bad(
        "order by a number",
        SEARCH,
        {"experiment_ids": ["$library"], "order_by": [5]},
        "Invalid value .* for parameter 'order_by' supplied",
    ),
)
_ALL = {"experiment_ids": ["$library"], "order_by": ["start_time"]}
_FIRST = call(
    SEARCH,
    {**_ALL, "max_results": 2},
    saves={"token": "next_page_token"},
    wanted={"runs": list, "next_page_token": str},
)
_VIEWS_AND_PAGES = (
    ok(
        "a run whole",
        SEARCH,
        {"experiment_ids": ["$library"], "filter": "run_name = 'b'"},
        {
            "runs": [
                {
                    "info": run_info(run_name="b", user_id="bob", status="FINISHED", start_time=2000, end_time=2500),
                    "data": {
                        "metrics": Each({"key": str, "value": float, "timestamp": int, "step": int}),
                        "params": Unordered((tag("lr", "0.1"), tag("opt", "sgd"))),
                        "tags": Unordered((tag("team", "blue"), tag("note", "it's"), tag("mlflow.runName", "b"))),
                    },
                    "inputs": {
                        "dataset_inputs": [with_others({"dataset": with_others({"name": "wine", "digest": "def"})})]
                    },
                    "outputs": {},
                }
            ]
        },
    ),
    ok("active ones", SEARCH, {**_ALL, "run_view_type": "ACTIVE_ONLY"}, names(*"abcd")),
    ok("deleted ones", SEARCH, {**_ALL, "run_view_type": "DELETED_ONLY"}, names("gone")),
    ok("all", SEARCH, {**_ALL, "run_view_type": "ALL"}, any_order(*"abcd", "gone")),
    ok("the first page", SEARCH, {**_ALL, "max_results": 2}, {**names("a", "b"), "next_page_token": str}),
    ok(
        "the second page",
        SEARCH,
        {**_ALL, "max_results": 1, "page_token": "$token"},
        {**names("c"), "next_page_token": str},
        before=(_FIRST,),
    ),
    ok(
        "the last page has no token",
        SEARCH,
        {**_ALL, "max_results": 2, "page_token": "$token"},
        {"runs": names("c", "d")["runs"]},
        before=(_FIRST,),
    ),
    ok("a page that holds all has no token", SEARCH, {**_ALL, "max_results": 4}, {"runs": names(*"abcd")["runs"]}),
    ok("an unknown experiment", SEARCH, {"experiment_ids": ["987654321"]}, EMPTY),
    ok("no experiment", SEARCH, {"experiment_ids": []}, EMPTY),
    ok("a deleted experiment", SEARCH, {"experiment_ids": ["$deleted_experiment"]}, EMPTY),
    ok("sizes as strings", SEARCH, {**_ALL, "max_results": "1"}, {**names("a"), "next_page_token": str}),
    bad(
        "pages of 50001",
        SEARCH,
        {**_ALL, "max_results": 50001},
        r"Invalid value 50001 for parameter 'max_results' supplied",
    ),
    bad(
        "pages of 0",
        SEARCH,
        {**_ALL, "max_results": 0},
        "Invalid value 0 for parameter 'max_results'|must be a positive",
    ),
    bad(
        "pages of -1",
        SEARCH,
        {**_ALL, "max_results": -1},
        "Invalid value -1 for parameter 'max_results'|must be a positive",
    ),
    bad(
        "a size that is no number",
        SEARCH,
        {**_ALL, "max_results": "few"},
        "Invalid value \"few\" for parameter 'max_results' supplied",
    ),
    bad("a token that is none", SEARCH, {**_ALL, "page_token": "junk!"}, "Invalid page token"),
    bad(
        "an experiment that is no integer", SEARCH, {"experiment_ids": ["abc"]}, "Experiment ID must be a valid integer"
    ),
    bad("a filter that is no string", SEARCH, {**_ALL, "filter": 5}, "Invalid value 5 for parameter 'filter' supplied"),
    bad(
        "experiments that are no list",
        SEARCH,
        {"experiment_ids": "0"},
        "Invalid value \"0\" for parameter 'experiment_ids' supplied",
    ),
)
CASES: tuple[Case, ...] = tuple(
    replace(case, setting=LIBRARY)
    for case in (*_METRICS, *_TEXTS, *_ATTRIBUTES, *_TOGETHER, *_BAD, *_ORDERS, *_VIEWS_AND_PAGES)
)
