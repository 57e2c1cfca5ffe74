"""Searches of logged models."""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Case, Setting, bad, call, differs, ok
from tests.conformance.mlflow_rest.entities import EMPTY, logged_model, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

SEARCH = "POST logged-models/search"
_NO_500 = "a mistake of the caller is no failure of the server"
_REFUSAL = "(?i)Invalid|Expected"
_HERE = {"experiment_ids": ["$new_experiment"]}


def _made(name: str, **more: Any) -> Call:
    return call(
        "POST logged-models",
        {"experiment_id": "$new_experiment", "name": name, **more},
        saves={name: "model.info.model_id"},
    )


THREE = Setting(
    "logged models",
    (
        call("POST runs/create", {"experiment_id": "$new_experiment"}, saves={"run_of": "run.info.run_id"}),
        _made("x", model_type="agent", source_run_id="$run_of", tags=[tag("team", "blue")], params=[tag("lr", "0.1")]),
        _made("y", model_type="agent", tags=[tag("team", "red")], params=[tag("lr", "0.2")]),
        _made("z", model_type="tree"),
        call("PATCH logged-models/$y", {"model_id": "$y", "status": "LOGGED_MODEL_READY"}),
        call(
            "POST runs/log-batch",
            {
                "run_id": "$run_of",
                "metrics": [
                    {
                        "key": "acc",
                        "value": value,
                        "timestamp": 1,
                        "model_id": f"${name}",
                        "dataset_name": "iris",
                        "dataset_digest": digest,
                    }
                    for name, value, digest in (("x", 0.5, "a"), ("y", 0.9, "b"))
                ],
            },
        ),
    ),
)


def _page(*names: str) -> dict[str, Any]:
    return {"models": [with_others({"info": with_others({"name": name})}) for name in names]} if names else EMPTY


def _any(*names: str) -> dict[str, Any]:
    return {"models": Unordered(tuple(_page(*names)["models"]))} if names else EMPTY


def _found(name: str, filter_: str, names: str) -> Case:
    return ok(f"{name}: {filter_}", SEARCH, {**_HERE, "filter": filter_}, _any(*names), setting=THREE)


def _ordered(order: dict[str, Any], names: str) -> Case:
    return ok(f"order {order}", SEARCH, {**_HERE, "order_by": [order]}, _page(*names), setting=THREE)


def _refused(name: str, filter_: str) -> Case:
    return bad(f"{name}: {filter_}", SEARCH, {"experiment_ids": ["$experiment"], "filter": filter_}, _REFUSAL)


def _broken(name: str, filter_: str) -> Case:
    """What breaks MLflow, and is refused by ours."""
    asked = {"experiment_ids": ["$experiment"], "filter": filter_}
    ours = differs(_NO_500, "INVALID_PARAMETER_VALUE", _REFUSAL)
    return ok(f"{name}: {filter_}", SEARCH, asked, status=500, ours=ours)


_FIRST = call(SEARCH, {**_HERE, "max_results": 2}, saves={"token": "next_page_token"})
CASES: tuple[Case, ...] = (
    ok(
        "a model whole",
        SEARCH,
        {**_HERE, "filter": "name = 'x'"},
        {
            "models": [
                {
                    "info": logged_model(
                        name="x", model_type="agent", source_run_id="$run_of", tags=[tag("team", "blue")]
                    ),
                    "data": {
                        "params": [tag("lr", "0.1")],
                        "metrics": [
                            {
                                "key": "acc",
                                "value": 0.5,
                                "timestamp": 1,
                                "step": 0,
                                "model_id": "$x",
                                "run_id": "$run_of",
                                "dataset_name": "iris",
                                "dataset_digest": "a",
                            }
                        ],
                    },
                }
            ]
        },
        setting=THREE,
    ),
    ok("no filter: newest first", SEARCH, _HERE, _page("z", "y", "x"), setting=THREE),
    _found("name", "name = 'x'", "x"),
    _found("name, as an attribute", "attributes.name = 'x'", "x"),
    _found("name like", "name LIKE 'x%'", "x"),
    _found("names", "name IN ('x', 'z')", "xz"),
    _found("not these names", "name NOT IN ('x', 'z')", "y"),
    _found("id", "model_id = '$x'", "x"),
    _found("type", "model_type = 'agent'", "xy"),
    _found("type unequal", "model_type != 'agent'", "z"),
    ok(
        "status",
        SEARCH,
        {**_HERE, "filter": "status = 'READY'"},
        EMPTY,
        setting=THREE,
        ours=differs("MLflow compares it with the number that its table keeps", answer=_any("y")),
    ),
    _found("source run, as loading by run does", "source_run_id = '$run_of' AND name = 'x'", "x"),
    _found("created", "creation_timestamp > 1000", "xyz"),
    _found("created, another word", "creation_time < 1000", ""),
    _found("updated", "last_updated_timestamp > 1000", "xyz"),
    _found("tag", "tags.team = 'blue'", "x"),
    _found("tag unequal", "tags.team != 'blue'", "y"),
    _found("param", "params.lr = '0.1'", "x"),
    _found("metric", "metrics.acc > 0.6", "y"),
    _found("metric and type", "metrics.acc >= 0.5 AND model_type = 'agent'", "xy"),
    ok(
        "a metric on a dataset",
        SEARCH,
        {**_HERE, "filter": "metrics.acc > 0", "datasets": [{"dataset_name": "iris", "dataset_digest": "a"}]},
        _any("x"),
        setting=THREE,
    ),
    _ordered({"field_name": "name"}, "xyz"),
    _ordered({"field_name": "name", "ascending": False}, "zyx"),
    _ordered({"field_name": "creation_timestamp", "ascending": True}, "xyz"),
    _ordered({"field_name": "metrics.acc", "ascending": True}, "xyz"),
    _ordered({"field_name": "metrics.acc", "ascending": False}, "yxz"),
    ok(
        "the first page",
        SEARCH,
        {**_HERE, "max_results": 2},
        {**_page("z", "y"), "next_page_token": str},
        setting=THREE,
    ),
    ok(
        "the last page has no token",
        SEARCH,
        {**_HERE, "max_results": 2, "page_token": "$token"},
        _page("x"),
        setting=THREE,
        before=(_FIRST,),
    ),
    ok(
        "deleted ones are not found",
        SEARCH,
        _HERE,
        _any("y", "z"),
        before=(*THREE.calls, call("DELETE logged-models/$x")),
    ),
    ok("an unknown experiment", SEARCH, {"experiment_ids": ["987654321"]}, EMPTY),
    ok("an empty list of experiments", SEARCH, {"experiment_ids": []}, EMPTY),
    ok("more than a page has at most", SEARCH, {**_HERE, "max_results": 100_000}, EMPTY),
    bad("no experiment", SEARCH, {"filter": "name = 'x'"}, "Missing value for required parameter 'experiment_ids'"),
    bad(
        "experiments that are no list",
        SEARCH,
        {"experiment_ids": "0"},
        "Invalid value \"0\" for parameter 'experiment_ids' supplied",
    ),
    bad(
        "a token of another search",
        SEARCH,
        {**_HERE, "filter": "name = 'x'", "page_token": "$token"},
        "(?i)token|filter",
        setting=THREE,
        before=(_FIRST,),
    ),
    ok(
        "a token that is none",
        SEARCH,
        {"experiment_ids": ["$experiment"], "page_token": "junk!"},
        status=500,
        ours=differs(_NO_500, "INVALID_PARAMETER_VALUE", "(?i)token"),
    ),
    bad(
        "an order that nobody knows",
        SEARCH,
        {"experiment_ids": ["$experiment"], "order_by": [{"field_name": "colour"}]},
        "(?i)Invalid",
    ),
    _broken("an attribute that nobody knows", "colour = 'x'"),
    _refused("a singular that other searches know", "tag.team = 'x'"),
    _refused("half a comparison", "name ="),
    _broken("a number in quotes", "metrics.acc > '0.5'"),
    _refused("greater on a name", "name > 'x'"),
    bad(
        "or",
        SEARCH,
        {**_HERE, "filter": "name = 'x' OR name = 'y'"},
        _REFUSAL,
        setting=THREE,
        ours=differs("OR is served by ours", answer=_any("x", "y")),
    ),
)
