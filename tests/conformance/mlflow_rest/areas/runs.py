"""Runs: create, get, update, delete, restore, log-model."""

import json
from typing import Any

from tests.conformance.mlflow_rest.case import Case, bad, call, differs, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, RUN_ID, UNKNOWN_EXPERIMENT, UNKNOWN_RUN, run_info, tag
from tests.conformance.mlflow_rest.shapes import Maybe, Named, Unordered, with_others

CREATE, GET, UPDATE = "POST runs/create", "GET runs/get", "POST runs/update"
DELETE, RESTORE, LOG_MODEL = "POST runs/delete", "POST runs/restore", "POST runs/log-model"

HERE = {"experiment_id": "$experiment"}
NEW, DELETED, UNKNOWN = {"run_id": "$new_run"}, {"run_id": "$deleted_run"}, {"run_id": UNKNOWN_RUN}
NO_RUN: dict[str, Any] = {
    "message": f"Run with id={UNKNOWN_RUN} not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
IS_DELETED = r"The run \$?.* must be in the 'active' state\. Current state is deleted"
UNUSUAL_IDS = "an id that none of ours has is unknown"
_NAME_TAG = "mlflow.runName"


def _run(info: object, *tags: tuple[str, object]) -> dict[str, object]:
    data = {"tags": Unordered(tuple(tag(*pair) for pair in tags))}
    return {"run": {"info": info, "data": data, "inputs": {}, "outputs": Maybe({})}}


_MODEL = {
    "artifact_path": "model",
    "flavors": {"python_function": {"loader_module": "x"}},
    "utc_time_created": "2026-01-01 00:00:00.000000",
    "run_id": "$new_run",
    "model_uuid": "0" * 32,
}
_NO_NUL = differs("PostgreSQL holds none, MLflow's neither", "INVALID_PARAMETER_VALUE", "NUL")
_NOT_FOUND: dict[str, Any] = {"error": "RESOURCE_DOES_NOT_EXIST", "status": 404}
_ON = tag("goes", "on")
_GOES_ON = (
    call("POST runs/set-tag", {**NEW, **_ON}),
    call(
        GET,
        NEW,
        wanted=with_others(
            {"run": with_others({"data": {"tags": Named("tags with the one set last", lambda tags: _ON in tags)}})}
        ),
    ),
)
"""That a run can still be written to: of one whose events are parked nothing more is seen."""
_CREATING = (
    ok(
        "what a client sends",
        CREATE,
        {
            **HERE,
            "user_id": "ada",
            "start_time": 1700000000123,
            "run_name": "first",
            "tags": [tag("team", "blue"), tag("mlflow.user", "ada")],
        },
        _run(
            run_info(user_id="ada", run_name="first", start_time=1700000000123, experiment_id="$experiment"),
            ("team", "blue"),
            ("mlflow.user", "ada"),
            (_NAME_TAG, "first"),
        ),
        saves={"made": "run.info.run_id"},
        then=(
            call(
                GET,
                {"run_id": "$made"},
                wanted=_run(
                    run_info(
                        run_id="$made", run_uuid="$made", user_id="ada", run_name="first", start_time=1700000000123
                    ),
                    ("team", "blue"),
                    ("mlflow.user", "ada"),
                    (_NAME_TAG, "first"),
                ),
            ),
        ),
    ),
    ok(
        "an experiment alone: a name is invented",
        CREATE,
        HERE,
        _run(run_info(user_id="", start_time=0), (_NAME_TAG, str)),
    ),
    bad(
        "no experiment",
        CREATE,
        {"start_time": 1},
        "FOREIGN KEY",
        "BAD_REQUEST",
        ours=differs("it says what is missing", "INVALID_PARAMETER_VALUE", "required parameter 'experiment_id'"),
    ),
    bad(
        "a body that broke off",
        CREATE,
        None,
        "FOREIGN KEY",
        "BAD_REQUEST",
        raw=b'{"experiment_id": "$experiment"',
        ours=differs("it says what is missing", "INVALID_PARAMETER_VALUE", "required parameter 'experiment_id'"),
    ),
    ok(
        "a name by its tag alone",
        CREATE,
        {**HERE, "tags": [tag(_NAME_TAG, "by tag")]},
        _run(run_info(run_name="by tag", user_id="", start_time=0), (_NAME_TAG, "by tag")),
    ),
    ok(
        "a name and the same by its tag",
        CREATE,
        {**HERE, "run_name": "twice", "tags": [tag(_NAME_TAG, "twice")]},
        _run(run_info(run_name="twice", user_id="", start_time=0), (_NAME_TAG, "twice")),
    ),
    bad(
        "a name and another by its tag",
        CREATE,
        {**HERE, "run_name": "a", "tags": [tag(_NAME_TAG, "b")]},
        "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values",
    ),
    ok("a name with a NUL", CREATE, {**HERE, "run_name": "a\u0000"}, ours=_NO_NUL),
    ok("a user with a NUL", CREATE, {**HERE, "user_id": "a\u0000"}, ours=_NO_NUL),
    ok(
        "a time as a string of digits",
        CREATE,
        {**HERE, "start_time": "12"},
        with_others({"run": with_others({"info": run_info(start_time=12, user_id="")})}),
    ),
    ok(
        "fields by their names of JSON, in camelCase",
        CREATE,
        {"experimentId": "$experiment", "startTime": "12", "runName": "camel", "userId": "ada"},
        with_others({"run": with_others({"info": run_info(start_time=12, user_id="ada", run_name="camel")})}),
    ),
    ok(
        "its artifacts are below its experiment's",
        CREATE,
        {"experiment_id": "$made"},
        {"run": with_others({"info": with_others({"run_id": RUN_ID})})},
        before=(
            call(
                "POST experiments/create",
                {"name": "$name", "artifact_location": "s3://bucket/$name"},
                saves={"made": "experiment_id"},
            ),
        ),
        saves={"id": "run.info.run_id"},
        then=(
            call(
                GET,
                {"run_id": "$id"},
                wanted=with_others(
                    {"run": with_others({"info": with_others({"artifact_uri": "s3://bucket/$name/$id/artifacts"})})}
                ),
            ),
        ),
    ),
    wrong_type(CREATE, HERE, "start_time", "soon", '"soon"'),
    wrong_type(CREATE, {}, "experiment_id", 5, "5"),
    wrong_type(CREATE, HERE, "run_name", 5, "5"),
    bad(
        "an unknown experiment",
        CREATE,
        {"experiment_id": UNKNOWN_EXPERIMENT},
        "No Experiment with id=987654321 exists",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad(
        "a deleted experiment",
        CREATE,
        {"experiment_id": "$deleted_experiment"},
        r"The experiment \$?.* must be in the 'active' state",
    ),
    bad("an experiment that is no integer", CREATE, {"experiment_id": "abc"}, "Experiment ID must be a valid integer"),
    ok(
        "keys of tags are not looked at",
        CREATE,
        {**HERE, "run_name": "any", "tags": [tag("a#b", "x")]},
        _run(run_info(user_id="", start_time=0), ("a#b", "x"), (_NAME_TAG, "any")),
    ),
)
_GETTING = (
    ok("an active one", GET, {"run_id": "$run"}, _run(run_info(run_name="one", user_id="ada"), (_NAME_TAG, "one"))),
    ok("a deleted one", GET, DELETED, with_others({"run": with_others({"info": run_info(lifecycle_stage="deleted")})})),
    ok(
        "run_uuid alone",
        GET,
        {"run_uuid": "$run"},
        with_others({"run": with_others({"info": run_info(run_id="$run")})}),
    ),
    ok("of two ids the first", GET, {"run_id": ["$run", UNKNOWN_RUN]}, with_others({"run": with_others({})})),
    ok("both ids", GET, {"run_id": "$run", "run_uuid": "$run"}, with_others({"run": with_others({})})),
    missing(GET, UNKNOWN, "run_id"),
    bad("an unknown one", GET, UNKNOWN, **NO_RUN),
    bad(
        "no id at all",
        GET,
        {"run_id": "no-such-run"},
        "Run with id=no-such-run not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad(
        "an id beyond ASCII",
        GET,
        {"run_id": "é\u0000"},
        "(?s)not found|Invalid",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
)
_CHANGING = (
    ok(
        "its end",
        UPDATE,
        {**NEW, "status": "FINISHED", "end_time": 1700000000999},
        {"run_info": run_info(status="FINISHED", end_time=1700000000999)},
        then=(
            call(
                GET,
                NEW,
                wanted={"run": with_others({"info": run_info(status="FINISHED", end_time=1700000000999)})},
            ),
        ),
    ),
    *(
        ok(
            f"{status}",
            UPDATE,
            {**NEW, "status": status, "end_time": 5},
            {"run_info": run_info(status=status, end_time=5)},
        )
        for status in ("FAILED", "KILLED", "SCHEDULED")
    ),
    ok(
        "back to running",
        UPDATE,
        {**NEW, "status": "RUNNING"},
        {"run_info": run_info(end_time=Maybe(int))},
        before=(call(UPDATE, {**NEW, "status": "FINISHED", "end_time": 7}),),
    ),
    ok(
        "a status by its number",
        UPDATE,
        {**NEW, "status": 3, "end_time": 5},
        {"run_info": run_info(status="FINISHED", end_time=5)},
    ),
    ok("a status by its number as text", UPDATE, {**NEW, "status": "3"}, {"run_info": run_info(status="FINISHED")}),
    bad("a status by a number that none has", UPDATE, {"run_id": "$run", "status": 6}, "for parameter 'status'"),
    ok("an end at 0 is none", UPDATE, {**NEW, "end_time": 0}, {"run_info": run_info()}),
    bad(
        "of an id that none can have",
        UPDATE,
        {"run_id": "a b", "run_name": "x"},
        "Run with id=a b not found",
        **_NOT_FOUND,
    ),
    ok("a name with a NUL", UPDATE, {**NEW, "run_name": "a\u0000"}, ours=_NO_NUL, then=_GOES_ON),
    ok("a status that nobody knows is ignored", UPDATE, {**NEW, "status": "SLEEPING"}, {"run_info": run_info()}),
    ok(
        "another name, and its tag with it",
        UPDATE,
        {**NEW, "run_name": "renamed"},
        {"run_info": run_info(run_name="renamed")},
        then=(call(GET, NEW, wanted=_run(run_info(run_name="renamed"), (_NAME_TAG, "renamed"))),),
    ),
    ok(
        "run_uuid alone",
        UPDATE,
        {"run_uuid": "$new_run", "status": "FAILED", "end_time": 9},
        {"run_info": run_info(status="FAILED", end_time=9)},
    ),
    missing(UPDATE, {**UNKNOWN, "status": "FINISHED"}, "run_id"),
    wrong_type(UPDATE, {"run_id": "$run"}, "end_time", "soon", '"soon"'),
    wrong_type(UPDATE, {"run_id": "$run"}, "run_name", 3, "3"),
    bad("an unknown one", UPDATE, {**UNKNOWN, "status": "FINISHED"}, **NO_RUN),
    bad("a deleted one", UPDATE, {**DELETED, "status": "FINISHED"}, IS_DELETED),
    ok(
        "an active one",
        DELETE,
        NEW,
        EMPTY,
        then=(call(GET, NEW, wanted={"run": with_others({"info": run_info(lifecycle_stage="deleted")})}),),
    ),
    ok("a deleted one again", DELETE, DELETED, EMPTY),
    missing(DELETE, {}, "run_id"),
    wrong_type(DELETE, {}, "run_id", 1, "1"),
    bad("an unknown one", DELETE, UNKNOWN, **NO_RUN),
    ok(
        "a deleted one",
        RESTORE,
        NEW,
        EMPTY,
        before=(call(DELETE, NEW),),
        then=(call(GET, NEW, wanted={"run": with_others({"info": run_info()})}),),
    ),
    ok("an active one", RESTORE, {"run_id": "$run"}, EMPTY),
    ok(
        "one of a deleted experiment",
        RESTORE,
        {"run_id": "$there"},
        EMPTY,
        before=(
            call(CREATE, {"experiment_id": "$new_experiment"}, saves={"there": "run.info.run_id"}),
            call("POST experiments/delete", {"experiment_id": "$new_experiment"}),
        ),
        ours=differs(
            "a run is deleted as long as its experiment is", "INVALID_PARAMETER_VALUE", "is deleted with its experiment"
        ),
    ),
    missing(RESTORE, {}, "run_id"),
    bad("an unknown one", RESTORE, UNKNOWN, **NO_RUN),
)
_MODELS = (
    ok(
        "the model that a 2.x client logs",
        LOG_MODEL,
        {**NEW, "model_json": json.dumps(_MODEL)},
        EMPTY,
        then=(
            call(
                GET,
                NEW,
                wanted=_run(run_info(), (_NAME_TAG, "one"), ("mlflow.log-model.history", str)),
            ),
        ),
    ),
    missing(LOG_MODEL, {**UNKNOWN, "model_json": "{}"}, "run_id"),
    missing(LOG_MODEL, {**UNKNOWN, "model_json": "{}"}, "model_json"),
    bad("no JSON", LOG_MODEL, {"run_id": "$run", "model_json": "{"}, "Malformed model info"),
    bad(
        "fields are missing",
        LOG_MODEL,
        {"run_id": "$run", "model_json": "{}"},
        "Model json is missing mandatory fields",
    ),
    bad("an unknown run", LOG_MODEL, {**UNKNOWN, "model_json": json.dumps(_MODEL | UNKNOWN)}, **NO_RUN),
)
CASES: tuple[Case, ...] = (*_CREATING, *_GETTING, *_CHANGING, *_MODELS)
