"""What is logged to a run: metrics, params and tags, one by one and in batches."""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Case, bad, call, differs, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_RUN, run_info, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

METRIC, PARAM, BATCH = "POST runs/log-metric", "POST runs/log-parameter", "POST runs/log-batch"
SET_TAG, DELETE_TAG, GET = "POST runs/set-tag", "POST runs/delete-tag", "GET runs/get"

NEW = {"run_id": "$new_run"}
NO_RUN: dict[str, Any] = {
    "message": f"Run with id={UNKNOWN_RUN} not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
IS_DELETED = r"The run .* must be in the 'active' state\. Current state is deleted"
BAD_NAME = "Names may only contain alphanumerics, underscores"
BAD_PATH = "Names may be treated as files in certain cases, and must not resolve to other names when treated as such"
LARGEST = 1.7976931348623157e308
_NAMED = tag("mlflow.runName", "one")
_POINT = {**NEW, "key": "loss", "value": 0.5, "timestamp": 1000, "step": 3}


def point(key: str, value: Any, timestamp: int = 1000, step: int = 0) -> dict[str, Any]:
    """Return a metric point as requests and answers have it."""
    return {"key": key, "value": value, "timestamp": timestamp, "step": step}


def has(**data: Any) -> tuple[Call, ...]:
    """Return the check that the new run has these metrics, params and tags, in any order, beside its name."""
    kinds = {kind: Unordered(tuple(items)) for kind, items in data.items()}
    wanted = {"tags": [_NAMED], **kinds}
    return (call(GET, NEW, wanted={"run": with_others({"data": wanted})}),)


def _refused(endpoint: str, fields: dict[str, Any]) -> tuple[Case, ...]:
    """What every call refuses that names a run."""
    return (
        missing(endpoint, {"run_id": UNKNOWN_RUN, **fields}, "run_id"),
        wrong_type(endpoint, fields, "run_id", 12, "12"),
        bad("an unknown run", endpoint, {"run_id": UNKNOWN_RUN, **fields}, **NO_RUN),
        bad("a deleted run", endpoint, {"run_id": "$deleted_run", **fields}, IS_DELETED),
    )


def _keys(endpoint: str, fields: dict[str, Any]) -> tuple[Case, ...]:
    """What every call refuses that has a key."""
    full = {"run_id": "$run", **fields}
    return (
        missing(endpoint, full, "key"),
        wrong_type(endpoint, full, "key", 12, "12"),
        bad("an empty key", endpoint, full | {"key": ""}, "Missing value for required parameter 'key'"),
        *(bad(f"the key {key!r}", endpoint, full | {"key": key}, BAD_NAME) for key in ("a#b", "é!", "a\nb", "a(b)")),
        *(
            bad(f"the key {key!r}", endpoint, full | {"key": key}, BAD_PATH)
            for key in ("../a", "/a", "a//b", ".", "a/")
        ),
        bad(
            "a key of 251 characters",
            endpoint,
            full | {"key": "k" * 251},
            "exceeds the maximum length of 250 characters",
        ),
        ok("a key of 250 characters", endpoint, {**fields, **NEW, "key": "k" * 250}, EMPTY),
        ok("a key with all that may be in it", endpoint, {**fields, **NEW, "key": "a/b.c-d_e f:9"}, EMPTY),
    )


_METRICS = (
    ok("a point", METRIC, _POINT, EMPTY, then=has(metrics=[point("loss", 0.5, 1000, 3)])),
    ok(
        "no step is step 0",
        METRIC,
        {**NEW, "key": "m", "value": 2, "timestamp": 5},
        EMPTY,
        then=has(metrics=[point("m", 2.0, 5)]),
    ),
    ok("a negative step", METRIC, _POINT | {"step": -4}, EMPTY, then=has(metrics=[point("loss", 0.5, 1000, -4)])),
    ok(
        "numbers as strings",
        METRIC,
        {**NEW, "key": "m", "value": "1.5", "timestamp": "12", "step": "7"},
        EMPTY,
        then=has(metrics=[point("m", 1.5, 12, 7)]),
    ),
    ok("NaN as a string", METRIC, _POINT | {"value": "NaN"}, EMPTY, then=has(metrics=[point("loss", "NaN", 1000, 3)])),
    ok("infinity", METRIC, _POINT | {"value": "Infinity"}, EMPTY, then=has(metrics=[point("loss", LARGEST, 1000, 3)])),
    ok(
        "minus infinity",
        METRIC,
        _POINT | {"value": "-Infinity"},
        EMPTY,
        then=has(metrics=[point("loss", -LARGEST, 1000, 3)]),
    ),
    ok(
        "run_uuid alone",
        METRIC,
        {"run_uuid": "$new_run", "key": "u", "value": 1, "timestamp": 1},
        EMPTY,
        then=has(metrics=[point("u", 1.0, 1)]),
    ),
    bad(
        "runId alone",
        METRIC,
        {"runId": "$new_run", "key": "c", "value": 1, "timestamp": 1},
        r"Missing value for required parameter 'run_id'",
        ours=differs("a field that is needed may be in camelCase, too, as others may", answer=EMPTY),
    ),
    bad(
        "of an id that no run can have",
        METRIC,
        {"run_id": "../x", "key": "c", "value": 1, "timestamp": 1},
        r"Run with id=\.\./x not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad(
        "run_id and runId",
        METRIC,
        {"run_id": "$run", "runId": "$run", "key": "c", "value": 1, "timestamp": 1},
        "Request specifies both 'run_id' and 'runId'; provide only one of them",
    ),
    ok(
        "the same point again",
        METRIC,
        _POINT,
        EMPTY,
        before=(call(METRIC, _POINT),),
        then=has(metrics=[point("loss", 0.5, 1000, 3)]),
    ),
    ok(
        "an earlier step is not the latest",
        METRIC,
        _POINT | {"value": 9, "step": 2, "timestamp": 2000},
        EMPTY,
        before=(call(METRIC, _POINT),),
        then=has(metrics=[point("loss", 0.5, 1000, 3)]),
    ),
    ok(
        "a later time of the same step is the latest",
        METRIC,
        _POINT | {"value": 0.1, "timestamp": 1001},
        EMPTY,
        before=(call(METRIC, _POINT),),
        then=has(metrics=[point("loss", 0.1, 1001, 3)]),
    ),
    ok(
        "the larger value of the same step and time is the latest",
        METRIC,
        _POINT | {"value": 0.1},
        EMPTY,
        before=(call(METRIC, _POINT),),
        then=has(metrics=[point("loss", 0.5, 1000, 3)]),
    ),
    missing(METRIC, {**_POINT, "run_id": "$run"}, "value"),
    missing(METRIC, {**_POINT, "run_id": "$run"}, "timestamp"),
    wrong_type(METRIC, {**_POINT, "run_id": "$run"}, "value", "high", '"high"'),
    wrong_type(METRIC, {**_POINT, "run_id": "$run"}, "timestamp", "soon", '"soon"'),
    wrong_type(METRIC, {**_POINT, "run_id": "$run"}, "step", "third", '"third"'),
    bad(
        "a negative time", METRIC, _POINT | {"run_id": "$run", "timestamp": -1}, "Timestamp must be a nonnegative long"
    ),
    *_refused(METRIC, {"key": "m", "value": 1, "timestamp": 1}),
    *_keys(METRIC, {"value": 1, "timestamp": 1}),
)
_PARAM = {**NEW, "key": "lr", "value": "0.1"}
_CLASH = r"Changing param values is not allowed\. Param with key='lr' was already logged with value='0\.1' for run ID='.*'\. Attempted logging new value '0\.2'"
_PARAMS = (
    ok("a param", PARAM, _PARAM, EMPTY, then=has(params=[tag("lr", "0.1")])),
    ok("an empty value", PARAM, {**NEW, "key": "e", "value": ""}, EMPTY, then=has(params=[tag("e", "")])),
    ok("no value is an empty one", PARAM, {**NEW, "key": "e"}, EMPTY, then=has(params=[tag("e", "")])),
    ok(
        "the same value again", PARAM, _PARAM, EMPTY, before=(call(PARAM, _PARAM),), then=has(params=[tag("lr", "0.1")])
    ),
    bad(
        "another value",
        PARAM,
        _PARAM | {"value": "0.2"},
        _CLASH,
        before=(call(PARAM, _PARAM),),
        then=has(params=[tag("lr", "0.1")]),
    ),
    ok(
        "a value of 6001 characters is cut to 6000",
        PARAM,
        {**NEW, "key": "long", "value": "v" * 6001},
        EMPTY,
        then=has(params=[tag("long", "v" * 6000)]),
    ),
    ok(
        "a value beyond ASCII",
        PARAM,
        {**NEW, "key": "u", "value": "é実🙂\n"},
        EMPTY,
        then=has(params=[tag("u", "é実🙂\n")]),
    ),
    wrong_type(PARAM, {"run_id": "$run", "key": "lr"}, "value", 0.1, "0.1"),
    ok(
        "run_uuid alone",
        PARAM,
        {"run_uuid": "$new_run", "key": "u", "value": "1"},
        EMPTY,
        then=has(params=[tag("u", "1")]),
    ),
    *_refused(PARAM, {"key": "p", "value": "1"}),
    *_keys(PARAM, {"value": "1"}),
)
_TAG = {**NEW, "key": "team", "value": "blue"}
_TAGS = (
    ok("a tag", SET_TAG, _TAG, EMPTY, then=has(tags=[_NAMED, tag("team", "blue")])),
    ok(
        "another value",
        SET_TAG,
        _TAG | {"value": "red"},
        EMPTY,
        before=(call(SET_TAG, _TAG),),
        then=has(tags=[_NAMED, tag("team", "red")]),
    ),
    ok("an empty value", SET_TAG, _TAG | {"value": ""}, EMPTY, then=has(tags=[_NAMED, tag("team", "")])),
    ok(
        "a value of 8001 characters is cut to 8000",
        SET_TAG,
        _TAG | {"value": "v" * 8001},
        EMPTY,
        then=has(tags=[_NAMED, tag("team", "v" * 8000)]),
    ),
    ok(
        "the tag of the name renames the run",
        SET_TAG,
        {**NEW, "key": "mlflow.runName", "value": "two"},
        EMPTY,
        then=(call(GET, NEW, wanted={"run": with_others({"info": run_info(run_name="two")})}),),
    ),
    wrong_type(SET_TAG, {"run_id": "$run", "key": "k"}, "value", 1, "1"),
    ok("run_uuid alone", SET_TAG, {"run_uuid": "$new_run", "key": "u", "value": "1"}, EMPTY),
    *_refused(SET_TAG, {"key": "t", "value": "1"}),
    *_keys(SET_TAG, {"value": "1"}),
    ok(
        "a tag that is there",
        DELETE_TAG,
        {**NEW, "key": "team"},
        EMPTY,
        before=(call(SET_TAG, _TAG),),
        then=has(tags=[_NAMED]),
    ),
    bad(
        "a tag that is not there",
        DELETE_TAG,
        {**NEW, "key": "none"},
        "No tag with name: none in run with id $new_run",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    missing(DELETE_TAG, {"run_id": "$run", "key": "k"}, "key"),
    *_refused(DELETE_TAG, {"key": "t"}),
)
CASES: tuple[Case, ...] = (*_METRICS, *_PARAMS, *_TAGS)
