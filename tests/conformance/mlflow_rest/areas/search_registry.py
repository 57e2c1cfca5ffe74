"""Searches of registered models and of their versions."""

from typing import Any

from tests.conformance.mlflow_rest.areas.registered_models import SOURCE
from tests.conformance.mlflow_rest.case import Call, Case, Setting, bad, call, differs, ok
from tests.conformance.mlflow_rest.entities import EMPTY, model_version, registered_model, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

MODELS, VERSIONS = "GET registered-models/search", "GET model-versions/search"


def _model(suffix: str, **tags: str) -> Call:
    return call(
        "POST registered-models/create",
        {"name": f"${{name}}-{suffix}", "tags": [tag(key, value) for key, value in tags.items()]},
    )


def _version(suffix: str, **more: Any) -> Call:
    return call("POST model-versions/create", {"name": f"${{name}}-{suffix}", "source": SOURCE, **more})


THREE = Setting("models", (_model("x", team="blue"), _model("y", team="red"), _model("z")))
_MINE = {"filter": "name LIKE '$name%'"}
_BY_NAME = {**_MINE, "order_by": "name"}


def _models(*suffixes: str) -> dict[str, Any]:
    return (
        {"registered_models": [with_others({"name": f"${{name}}-{suffix}"}) for suffix in suffixes]}
        if suffixes
        else EMPTY
    )


def _any_models(*suffixes: str) -> dict[str, Any]:
    return {"registered_models": Unordered(tuple(_models(*suffixes)["registered_models"]))} if suffixes else EMPTY


def _found_models(name: str, filter_: str, suffixes: str) -> Case:
    return ok(
        f"{name}: {filter_}",
        MODELS,
        {"filter": f"name LIKE '$name%' AND {filter_}"},
        _any_models(*suffixes),
        setting=THREE,
    )


_FIRST = call(MODELS, {**_MINE, "max_results": 2}, saves={"token": "next_page_token"})
_PROMPT = call("POST registered-models/create", {"name": "$name-x", "tags": [tag("mlflow.prompt.is_prompt", "true")]})
_SEARCH_MODELS = (
    ok(
        "a model whole",
        MODELS,
        {"filter": "name = '$name-y'"},
        {"registered_models": [registered_model(name="$name-y", tags=[tag("team", "red")])]},
        setting=THREE,
    ),
    ok(
        "a model with its latest versions",
        MODELS,
        {"filter": "name = '$name-x'"},
        {
            "registered_models": [
                registered_model(tags=[tag("team", "blue")], latest_versions=[model_version(version="2")])
            ]
        },
        before=(*THREE.calls, _version("x"), _version("x")),
    ),
    ok("by name", MODELS, _MINE, _models("x", "y", "z"), setting=THREE),
    _found_models("name", "name = '$name-x'", "x"),
    _found_models("name unequal", "name != '$name-x'", "yz"),
    _found_models("name ilike", "name ILIKE '%-X'", "x"),
    _found_models("tag", "tags.team = 'blue'", "x"),
    _found_models("tag, singular", "tag.team = 'red'", "y"),
    _found_models("tag unequal", "tags.team != 'blue'", "y"),
    _found_models("tag like", "tags.team LIKE '%e%'", "xy"),
    ok("prompts are hidden", MODELS, _MINE, EMPTY, before=(_PROMPT,)),
    ok(
        "prompts are found when asked for",
        MODELS,
        {"filter": "name LIKE '$name%' AND tags.`mlflow.prompt.is_prompt` = 'true'"},
        _any_models("x"),
        before=(_PROMPT,),
    ),
    ok("order by name down", MODELS, {**_MINE, "order_by": "name DESC"}, _models("z", "y", "x"), setting=THREE),
    ok(
        "order by the last update",
        MODELS,
        {**_MINE, "order_by": ["last_updated_timestamp DESC"]},
        _any_models("x", "y", "z"),
        setting=THREE,
    ),
    ok(
        "the first page",
        MODELS,
        {**_MINE, "max_results": 2},
        {**_models("x", "y"), "next_page_token": str},
        setting=THREE,
    ),
    ok(
        "the last page has no token",
        MODELS,
        {**_MINE, "max_results": 2, "page_token": "$token"},
        _models("z"),
        setting=THREE,
        before=(_FIRST,),
    ),
    ok(
        "a page that holds all has no token", MODELS, {**_MINE, "max_results": 3}, _models("x", "y", "z"), setting=THREE
    ),
    bad("pages of 1001", MODELS, {"max_results": 1001}, "Invalid value \"?1001\"? for parameter 'max_results'"),
    ok(
        "pages of 0",
        MODELS,
        {"max_results": 0},
        {"next_page_token": str},
        ours=differs("such a page never ends", "INVALID_PARAMETER_VALUE", "(?i)max_results"),
    ),
    bad(
        "a size that is no number",
        MODELS,
        {"max_results": "few"},
        "Invalid value \"few\" for parameter 'max_results' supplied",
    ),
    bad("a token that is none", MODELS, {"page_token": "junk!"}, "Invalid page token"),
    bad("an attribute that nobody knows", MODELS, {"filter": "colour = 'x'"}, "(?i)Invalid attribute"),
    bad("half a comparison", MODELS, {"filter": "name ="}, "Invalid"),
    bad("greater on a name", MODELS, {"filter": "name > 'x'"}, "(?i)Invalid|comparator"),
    bad("a name without quotes", MODELS, {"filter": "name = x"}, "(?i)Invalid|quote|Expected"),
    bad("an order that nobody knows", MODELS, {"order_by": "colour"}, "(?i)Invalid"),
)


def _versions(*wanted: tuple[str, str]) -> dict[str, Any]:
    found = [with_others({"name": f"${{name}}-{suffix}", "version": version}) for suffix, version in wanted]
    return {"model_versions": found} if found else EMPTY


def _found_versions(name: str, filter_: str, *wanted: tuple[str, str]) -> Case:
    shape = {"model_versions": Unordered(tuple(_versions(*wanted)["model_versions"]))} if wanted else EMPTY
    return ok(f"{name}: {filter_}", VERSIONS, {"filter": f"name LIKE '$name%' AND {filter_}"}, shape, setting=_FOUR)


_X1, _X2, _X3, _Y1 = ("x", "1"), ("x", "2"), ("x", "3"), ("y", "1")
_FOUR = Setting(
    "versions",
    (
        *THREE.calls,
        _version("x", run_id="$run", source="s3://bucket/$run/a"),
        _version("x", tags=[tag("team", "blue")]),
        _version("x", tags=[tag("team", "red")]),
        _version("y", source="s3://other/b"),
    ),
)
_FIRST_VERSIONS = call(VERSIONS, {**_BY_NAME, "max_results": 2}, saves={"token": "next_page_token"})
_SEARCH_VERSIONS = (
    ok(
        "a version whole",
        VERSIONS,
        {"filter": "name = '$name-x' AND version_number = 2"},
        {"model_versions": [model_version(name="$name-x", version="2", source=SOURCE, tags=[tag("team", "blue")])]},
        setting=_FOUR,
    ),
    ok("by name, newest version first", VERSIONS, _BY_NAME, _versions(_X3, _X2, _X1, _Y1), setting=_FOUR),
    _found_versions("name", "name = '$name-y'", _Y1),
    _found_versions("number", "version_number >= 2", _X2, _X3),
    _found_versions("run", "run_id = '$run'", _X1),
    _found_versions("runs", "run_id IN ('$run', 'x')", _X1),
    _found_versions("source", "source_path = 's3://other/b'", _Y1),
    _found_versions("source like", "source_path LIKE 's3://other%'", _Y1),
    _found_versions("tag", "tags.team = 'blue'", _X2),
    _found_versions("tag unequal", "tags.team != 'blue'", _X3),
    ok(
        "deleted ones are not found",
        VERSIONS,
        _BY_NAME,
        _versions(_X3, _X1, _Y1),
        before=(*_FOUR.calls, call("DELETE model-versions/delete", {"name": "$name-x", "version": "2"})),
    ),
    ok(
        "no order: the last one to change first",
        VERSIONS,
        {"filter": "name = '$name-x'"},
        _versions(_X1, _X3, _X2),
        before=(
            *_FOUR.calls,
            call("GET model-versions/get", {"name": "$name-x", "version": "1"}),
            call("PATCH model-versions/update", {"name": "$name-x", "version": "1", "description": "changed"}),
        ),
    ),
    ok(
        "order by number",
        VERSIONS,
        {"filter": "name = '$name-x'", "order_by": "version_number ASC"},
        _versions(_X1, _X2, _X3),
        setting=_FOUR,
    ),
    ok(
        "order by name down",
        VERSIONS,
        {**_MINE, "order_by": ["name DESC"]},
        _versions(_Y1, _X3, _X2, _X1),
        setting=_FOUR,
    ),
    ok(
        "the first page",
        VERSIONS,
        {**_BY_NAME, "max_results": 2},
        {**_versions(_X3, _X2), "next_page_token": str},
        setting=_FOUR,
    ),
    ok(
        "the last page has no token",
        VERSIONS,
        {**_BY_NAME, "max_results": 2, "page_token": "$token"},
        _versions(_X1, _Y1),
        setting=_FOUR,
        before=(_FIRST_VERSIONS,),
    ),
    ok("of an unknown model", VERSIONS, {"filter": "name = '$name'"}, EMPTY),
    bad(
        "pages of 200001", VERSIONS, {"max_results": 200_001}, "Invalid value \"?200001\"? for parameter 'max_results'"
    ),
    bad("pages of 0", VERSIONS, {"max_results": 0}, "(?i)max_results"),
    bad("a token that is none", VERSIONS, {"page_token": "junk!"}, "Invalid page token"),
    bad("an attribute that nobody knows", VERSIONS, {"filter": "colour = 'x'"}, "(?i)Invalid attribute"),
    bad("a number in quotes", VERSIONS, {"filter": "version_number = 'x'"}, "(?i)Invalid|numeric|Expected"),
    bad("an order that nobody knows", VERSIONS, {"order_by": "colour"}, "(?i)Invalid"),
)
CASES: tuple[Case, ...] = (*_SEARCH_MODELS, *_SEARCH_VERSIONS)
