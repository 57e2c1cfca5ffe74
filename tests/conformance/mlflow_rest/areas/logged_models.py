"""Logged models: create, get, finalize, tags, params, delete, metrics, artifacts."""

from typing import Any

from tests.conformance.mlflow_rest.case import Case, bad, call, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_EXPERIMENT, UNKNOWN_MODEL, logged_model, tag
from tests.conformance.mlflow_rest.shapes import Maybe, Unordered, with_others

CREATE, MODEL, NEW = "POST logged-models", "logged-models/$logged_model", "logged-models/$new_logged_model"
DELETED, UNKNOWN = "logged-models/$deleted_logged_model", f"logged-models/{UNKNOWN_MODEL}"
HERE = {"experiment_id": "$experiment"}
NO_MODEL: dict[str, Any] = {
    "message": f"Logged model with ID '{UNKNOWN_MODEL}' not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
GONE: dict[str, Any] = {
    "message": "Logged model with ID '$deleted_logged_model' not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}


def model(data: Any = EMPTY, **info: Any) -> dict[str, Any]:
    """Return the shape of the answer with one model."""
    return {"model": {"info": logged_model(**info), "data": data}}


_CREATING = (
    ok(
        "what a client sends",
        CREATE,
        {
            **HERE,
            "name": "net",
            "model_type": "agent",
            "source_run_id": "$run",
            "params": [tag("depth", "3")],
            "tags": [tag("team", "blue")],
        },
        model(
            {"params": [tag("depth", "3")]},
            name="net",
            model_type="agent",
            source_run_id="$run",
            experiment_id="$experiment",
            tags=[tag("team", "blue")],
        ),
        saves={"made": "model.info.model_id"},
        then=(
            call(
                "GET logged-models/$made",
                wanted=model(
                    {"params": [tag("depth", "3")]},
                    model_id="$made",
                    name="net",
                    model_type="agent",
                    source_run_id="$run",
                    tags=[tag("team", "blue")],
                ),
            ),
        ),
    ),
    ok("an experiment alone: a name is invented", CREATE, HERE, model(name=str, source_run_id=Maybe(""))),
    ok("an empty name: one is invented", CREATE, {**HERE, "name": ""}, model(name=str)),
    ok(
        "its artifacts are below the experiment's",
        CREATE,
        {**HERE, "name": "net"},
        model(),
        saves={"made": "model.info.model_id"},
        then=(
            call(
                "GET logged-models/$made/artifacts/directories",
                wanted={"root_uri": "mlflow-artifacts:/$experiment/models/$made/artifacts"},
            ),
        ),
    ),
    missing(CREATE, HERE, "experiment_id"),
    wrong_type(CREATE, {}, "experiment_id", 5, "5"),
    wrong_type(CREATE, HERE, "name", 5, "5"),
    wrong_type(CREATE, HERE, "params", "x", '"x"'),
    bad(
        "an unknown experiment",
        CREATE,
        {"experiment_id": UNKNOWN_EXPERIMENT},
        "No Experiment with id=987654321 exists",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad("a deleted experiment", CREATE, {"experiment_id": "$deleted_experiment"}, "must be in the 'active' state"),
    *(
        bad(f"the name {name!r}", CREATE, {**HERE, "name": name}, "Invalid model name|model name")
        for name in ("a/b", "a:b", "a.b", "a%b", 'a"b', "a'b")
    ),
)
_GETTING = (
    ok("one", f"GET {MODEL}", None, model(model_id="$logged_model", name="net", source_run_id="$run")),
    bad("an unknown one", f"GET {UNKNOWN}", None, **NO_MODEL),
    bad("a deleted one", f"GET {DELETED}", None, **GONE),
    ok(
        "a deleted one, asked for", f"GET {DELETED}", {"allow_deleted": "true"}, model(model_id="$deleted_logged_model")
    ),
    ok("its artifacts: none", f"GET {MODEL}/artifacts/directories", None, {"root_uri": str}),
    bad("artifacts of an unknown one", f"GET {UNKNOWN}/artifacts/directories", None, **NO_MODEL),
)
_STATUS = {"model_id": "$new_logged_model", "status": "LOGGED_MODEL_READY"}
_CHANGING = (
    ok(
        "ready",
        f"PATCH {NEW}",
        _STATUS,
        model(status="LOGGED_MODEL_READY"),
        then=(call(f"GET {NEW}", wanted=model(status="LOGGED_MODEL_READY")),),
    ),
    ok(
        "failed",
        f"PATCH {NEW}",
        _STATUS | {"status": "LOGGED_MODEL_UPLOAD_FAILED"},
        model(status="LOGGED_MODEL_UPLOAD_FAILED"),
    ),
    ok("ready by its number", f"PATCH {NEW}", _STATUS | {"status": 2}, model(status="LOGGED_MODEL_READY")),
    ok(
        "ready again",
        f"PATCH {NEW}",
        _STATUS,
        model(status="LOGGED_MODEL_READY"),
        before=(call(f"PATCH {NEW}", _STATUS),),
    ),
    bad("no status", f"PATCH {MODEL}", {"model_id": "$logged_model"}, "Missing value for required parameter 'status'"),
    bad("an unknown one", f"PATCH {UNKNOWN}", {"model_id": UNKNOWN_MODEL, "status": "LOGGED_MODEL_READY"}, **NO_MODEL),
    ok(
        "a deleted one",
        f"PATCH {NEW}",
        _STATUS,
        model(status="LOGGED_MODEL_READY"),
        before=(call(f"DELETE {NEW}"),),
    ),
    ok(
        "tags",
        f"PATCH {NEW}/tags",
        {"tags": [tag("a", "1"), tag("b", "")]},
        EMPTY,
        then=(call(f"GET {NEW}", wanted=model(tags=Unordered((tag("a", "1"), tag("b", ""))))),),
    ),
    ok(
        "a tag with another value",
        f"PATCH {NEW}/tags",
        {"tags": [tag("a", "2")]},
        EMPTY,
        before=(call(f"PATCH {NEW}/tags", {"tags": [tag("a", "1")]}),),
        then=(call(f"GET {NEW}", wanted=model(tags=[tag("a", "2")])),),
    ),
    bad("tags of an unknown one", f"PATCH {UNKNOWN}/tags", {"tags": [tag("a", "1")]}, **NO_MODEL),
    bad(
        "tags that are no list",
        f"PATCH {MODEL}/tags",
        {"tags": "x"},
        "Invalid value \"x\" for parameter 'tags' supplied",
    ),
    ok(
        "a tag is deleted",
        f"DELETE {NEW}/tags/a",
        None,
        EMPTY,
        before=(call(f"PATCH {NEW}/tags", {"tags": [tag("a", "1"), tag("b", "2")]}),),
        then=(call(f"GET {NEW}", wanted=model(tags=[tag("b", "2")])),),
    ),
    bad(
        "a tag that is not there",
        f"DELETE {MODEL}/tags/none",
        None,
        "No tag with key 'none' found for model",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad("a tag of an unknown one", f"DELETE {UNKNOWN}/tags/a", None, **NO_MODEL),
    ok(
        "params",
        f"POST {NEW}/params",
        {"model_id": "$new_logged_model", "params": [tag("a", "1"), tag("b", "2")]},
        EMPTY,
        then=(call(f"GET {NEW}", wanted=model({"params": Unordered((tag("a", "1"), tag("b", "2")))})),),
    ),
    bad(
        "params of an unknown one",
        f"POST {UNKNOWN}/params",
        {"model_id": UNKNOWN_MODEL, "params": [tag("a", "1")]},
        **NO_MODEL,
    ),
    ok(
        "a model",
        f"DELETE {NEW}",
        None,
        EMPTY,
        then=(call(f"GET {NEW}", {"allow_deleted": "true"}, wanted=model(model_id="$new_logged_model")),),
    ),
    bad("an unknown model", f"DELETE {UNKNOWN}", None, **NO_MODEL),
    ok("a deleted model again", f"DELETE {DELETED}", None, EMPTY),
)
_POINT = {"key": "acc", "value": 0.5, "timestamp": 7, "step": 2}
_ON = {"model_id": "$new_logged_model", "dataset_name": "iris", "dataset_digest": "abc"}
_METRICS = (
    *(
        bad(
            f"a metric with the {half} of a dataset alone",
            "POST runs/log-metric",
            {"run_id": "$run", "key": "m", "value": 1, "timestamp": 1, "model_id": "$logged_model", half: "x"},
            "Both dataset_name and dataset_digest must be provided if one is provided",
        )
        for half in ("dataset_name", "dataset_digest")
    ),
    ok(
        "a metric of a model by log-metric",
        "POST runs/log-metric",
        {"run_id": "$new_run", **_POINT, **_ON},
        EMPTY,
        then=(call(f"GET {NEW}", wanted=model({"metrics": [{**_POINT, **_ON, "run_id": "$new_run"}]})),),
    ),
    ok(
        "a metric of a model by log-batch",
        "POST runs/log-batch",
        {"run_id": "$new_run", "metrics": [{**_POINT, **_ON}]},
        EMPTY,
        then=(
            call(f"GET {NEW}", wanted=model({"metrics": [{**_POINT, **_ON, "run_id": "$new_run"}]})),
            call(
                "GET runs/get",
                {"run_id": "$new_run"},
                wanted={"run": with_others({"data": with_others({"metrics": [_POINT]})})},
            ),
        ),
    ),
)
CASES: tuple[Case, ...] = (*_CREATING, *_GETTING, *_CHANGING, *_METRICS)
