"""Searches of experiments: filters, orders, views, pages."""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Case, Setting, bad, call, ok
from tests.conformance.mlflow_rest.entities import EMPTY, experiment, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

SEARCH, GET_SEARCH = "POST experiments/search", "GET experiments/search"
_MINE = {"max_results": 100, "filter": "name LIKE '$name%'"}


def _made(suffix: str, **tags: str) -> Call:
    body = {"name": f"${{name}}-{suffix}", "tags": [tag(key, value) for key, value in tags.items()]}
    return call("POST experiments/create", body, saves={suffix: "experiment_id"})


THREE = Setting("experiments", (_made("x", team="blue", note="it's"), _made("y", team="red"), _made("z")))


def _page(*suffixes: str) -> dict[str, Any]:
    return {"experiments": [with_others({"name": f"${{name}}-{suffix}"}) for suffix in suffixes]} if suffixes else EMPTY


def _any(*suffixes: str) -> dict[str, Any]:
    return {"experiments": Unordered(tuple(_page(*suffixes)["experiments"]))} if suffixes else EMPTY


def _found(name: str, filter_: str, suffixes: str) -> Case:
    """The experiments of this case that a filter finds (``$name-x`` ...)."""
    full = f"name LIKE '$name%' AND {filter_}"
    return ok(f"{name}: {filter_}", SEARCH, {"max_results": 100, "filter": full}, _any(*suffixes), setting=THREE)


def _ordered(order: list[str], suffixes: str) -> Case:
    return ok(f"order {order}", SEARCH, {**_MINE, "order_by": order}, _page(*suffixes), setting=THREE)


_GONE = call("POST experiments/delete", {"experiment_id": "$y"})
_FIRST = call(SEARCH, {**_MINE, "max_results": 2, "order_by": ["name"]}, saves={"token": "next_page_token"})

CASES: tuple[Case, ...] = (
    ok(
        "an experiment whole",
        SEARCH,
        {"max_results": 5, "filter": "name = '$name-y'"},
        {"experiments": [experiment(name="$name-y", tags=[tag("team", "red")])]},
        setting=THREE,
    ),
    ok("by GET", GET_SEARCH, _MINE | {"order_by": "name"}, _page("x", "y", "z"), setting=THREE),
    ok(
        "by GET with two orders",
        GET_SEARCH,
        _MINE | {"order_by": ["last_update_time", "name DESC"]},
        _any("x", "y", "z"),
        setting=THREE,
    ),
    _found("name", "name = '$name-x'", "x"),
    _found("name unequal", "name != '$name-x'", "yz"),
    _found("name like", "name LIKE '%-x'", "x"),
    _found("name like minds case", "name LIKE '%-X'", ""),
    _found("name ilike does not", "name ILIKE '%-X'", "x"),
    _found("attribute", "attribute.name = '$name-x'", "x"),
    _found("tag", "tags.team = 'blue'", "x"),
    _found("tag, singular", "tag.team = 'blue'", "x"),
    _found("tag unequal leaves out those without", "tags.team != 'blue'", "y"),
    _found("tag like", "tags.team LIKE '%e%'", "xy"),
    _found("tag with a quote", 'tags.note = "it\'s"', "x"),
    _found("tag is null", "tags.team IS NULL", "z"),
    _found("tag is not null", "tags.team IS NOT NULL", "xy"),
    _found("created after", "creation_time > 1000", "xyz"),
    _found("updated before", "last_update_time < 1000", ""),
    _ordered([], "zyx"),
    _ordered(["name"], "xyz"),
    _ordered(["name DESC"], "zyx"),
    _ordered(["experiment_id ASC"], "xyz"),
    _ordered(["attribute.name desc"], "zyx"),
    ok("active ones", SEARCH, {**_MINE, "view_type": "ACTIVE_ONLY"}, _any("x", "z"), before=(*THREE.calls, _GONE)),
    ok("deleted ones", SEARCH, {**_MINE, "view_type": "DELETED_ONLY"}, _any("y"), before=(*THREE.calls, _GONE)),
    ok("all", SEARCH, {**_MINE, "view_type": "ALL"}, _any("x", "y", "z"), before=(*THREE.calls, _GONE)),
    ok("views have numbers too", SEARCH, {**_MINE, "view_type": 2}, _any("y"), before=(*THREE.calls, _GONE)),
    ok(
        "numbers as text",
        GET_SEARCH,
        {**_MINE, "max_results": "1e2", "view_type": "2"},
        _any("y"),
        before=(*THREE.calls, _GONE),
    ),
    ok("no view is active ones", SEARCH, _MINE, _any("x", "z"), before=(*THREE.calls, _GONE)),
    ok(
        "the first page",
        SEARCH,
        {**_MINE, "max_results": 2, "order_by": ["name"]},
        {**_page("x", "y"), "next_page_token": str},
        setting=THREE,
    ),
    ok(
        "the last page has no token",
        SEARCH,
        {**_MINE, "max_results": 2, "order_by": ["name"], "page_token": "$token"},
        _page("z"),
        setting=THREE,
        before=(_FIRST,),
    ),
    ok("a page that holds all has no token", SEARCH, {**_MINE, "max_results": 3}, _page("z", "y", "x"), setting=THREE),
    bad("no size", SEARCH, {}, "Invalid value 0 for parameter 'max_results'"),
    bad("pages of 50001", SEARCH, {"max_results": 50001}, "Invalid value 50001 for parameter 'max_results'"),
    bad("pages of -1", SEARCH, {"max_results": -1}, "Invalid value -1 for parameter 'max_results'"),
    bad(
        "a size that is no number",
        SEARCH,
        {"max_results": "few"},
        "Invalid value \"few\" for parameter 'max_results' supplied",
    ),
    bad("a token that is none", SEARCH, {"max_results": 5, "page_token": "junk!"}, "Invalid page token"),
    bad(
        "an attribute that nobody knows",
        SEARCH,
        {"max_results": 5, "filter": "colour = 'x'"},
        "Invalid attribute key 'colour'",
    ),
    bad(
        "an entity that nobody knows",
        SEARCH,
        {"max_results": 5, "filter": "metrics.acc > 1"},
        "(?i)Invalid entity type 'metrics'",
    ),
    bad("half a comparison", SEARCH, {"max_results": 5, "filter": "name ="}, "Invalid"),
    bad(
        "a name without quotes",
        SEARCH,
        {"max_results": 5, "filter": "name = x"},
        "(?i)Expected a quoted string|Invalid|quote",
    ),
    bad("greater on a name", SEARCH, {"max_results": 5, "filter": "name > 'x'"}, "(?i)Invalid comparator"),
    bad("like on a time", SEARCH, {"max_results": 5, "filter": "creation_time LIKE 'x'"}, "(?i)Invalid|Expected"),
    bad("an order that nobody knows", SEARCH, {"max_results": 5, "order_by": ["colour"]}, "(?i)Invalid"),
    bad(
        "an order that is no list",
        SEARCH,
        {"max_results": 5, "order_by": "name"},
        "Invalid value \"name\" for parameter 'order_by' supplied",
    ),
    bad(
        "a filter that is no string",
        SEARCH,
        {"max_results": 5, "filter": 1},
        "Invalid value 1 for parameter 'filter' supplied",
    ),
)
