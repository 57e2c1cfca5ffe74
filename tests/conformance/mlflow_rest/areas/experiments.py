"""Experiments: create, get, get-by-name, update, delete, restore, tags."""

from typing import Any

from tests.conformance.mlflow_rest.case import Case, bad, call, differs, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import DIGITS, EMPTY, UNKNOWN_EXPERIMENT, experiment, run_info, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

CREATE, GET, BY_NAME = "POST experiments/create", "GET experiments/get", "GET experiments/get-by-name"
UPDATE, DELETE, RESTORE = "POST experiments/update", "POST experiments/delete", "POST experiments/restore"
SET_TAG, DELETE_TAG = "POST experiments/set-experiment-tag", "POST experiments/delete-experiment-tag"

NEW = {"experiment_id": "$new_experiment"}
DELETED = {"experiment_id": "$deleted_experiment"}
UNKNOWN = {"experiment_id": UNKNOWN_EXPERIMENT}
NO_EXPERIMENT: dict[str, Any] = {"error": "RESOURCE_DOES_NOT_EXIST", "status": 404}
NO_ID = "No Experiment with id=987654321 exists"
NOT_AN_INTEGER = r"Invalid experiment ID 'abc'\. Experiment ID must be a valid integer\."


def _tags(*pairs: tuple[str, str]) -> dict[str, Unordered]:
    return {"tags": Unordered(tuple(tag(*pair) for pair in pairs))}


_CREATING = (
    ok(
        "a name alone",
        CREATE,
        {"name": "$name"},
        {"experiment_id": DIGITS},
        then=(call(BY_NAME, {"experiment_name": "$name"}, wanted={"experiment": experiment(name="$name")}),),
    ),
    ok(
        "with tags",
        CREATE,
        {"name": "$name", "tags": [tag("team", "blue"), tag("empty", "")]},
        {"experiment_id": DIGITS},
        saves={"made": "experiment_id"},
        then=(
            call(
                GET,
                {"experiment_id": "$made"},
                wanted={"experiment": experiment(name="$name", **_tags(("team", "blue"), ("empty", "")))},
            ),
        ),
    ),
    ok(
        "with a place for artifacts",
        CREATE,
        {"name": "$name", "artifact_location": "s3://bucket/$name"},
        {"experiment_id": DIGITS},
        saves={"made": "experiment_id"},
        then=(
            call(
                GET,
                {"experiment_id": "$made"},
                wanted={"experiment": experiment(artifact_location="s3://bucket/$name")},
            ),
        ),
    ),
    ok("fields that nobody knows are ignored", CREATE, {"name": "$name", "colour": "red"}, {"experiment_id": DIGITS}),
    ok("a name of 500 characters", CREATE, {"name": "${name}" + "x" * 466}, {"experiment_id": DIGITS}),
    ok("a name beyond ASCII", CREATE, {"name": "$name é 実験 🙂"}, {"experiment_id": DIGITS}),
    missing(CREATE, {"name": "x"}, "name"),
    bad("an empty name", CREATE, {"name": ""}, r"Missing value for required parameter 'name'"),
    bad("a null name", CREATE, {"name": None}, r"Missing value for required parameter 'name'"),
    wrong_type(CREATE, {}, "name", 5, "5"),
    wrong_type(CREATE, {}, "name", ["x"], r'\["x"\]'),
    wrong_type(CREATE, {"name": "$name"}, "tags", "x", '"x"'),
    wrong_type(CREATE, {"name": "$name"}, "artifact_location", 7, "7"),
    bad("a name of 501 characters", CREATE, {"name": "x" * 501}, "exceeds the maximum length of 500 characters"),
    bad(
        "a name that is taken",
        CREATE,
        {"name": "$name"},
        r"Experiment\(name=\$?.*\) already exists|Experiment.*already exists",
        "RESOURCE_ALREADY_EXISTS",
        before=(call(CREATE, {"name": "$name"}),),
    ),
    bad(
        "a name that a deleted one has",
        CREATE,
        {"name": "$name"},
        "already exists",
        "RESOURCE_ALREADY_EXISTS",
        before=(
            call(CREATE, {"name": "$name"}, saves={"made": "experiment_id"}),
            call(DELETE, {"experiment_id": "$made"}),
        ),
    ),
    bad(
        "a place with a fragment",
        CREATE,
        {"name": "$name", "artifact_location": "s3://bucket/a#b"},
        r"'artifact_location' URL can't include fragments or params",
    ),
    bad(
        "a place below a run",
        CREATE,
        {"name": "$name", "artifact_location": "runs:/abc/x"},
        "Artifact location cannot be a runs:/ URI",
    ),
    bad(
        "a place of 2049 characters",
        CREATE,
        {"name": "$name", "artifact_location": "s3://b/" + "x" * 2042},
        "Invalid artifact path length. The length of the artifact path cannot be greater than 2048",
    ),
    *(
        bad(
            f"a place on a host of the caller's choice: {place}",
            CREATE,
            {"name": "$name", "artifact_location": place},
            "'artifact_location' cannot use the '.*' scheme: .* addresses a host other than the tracking server's",
        )
        for place in ("http://host/x", "HTTPS://host/x", "ftp://host/x", "hdfs:/x", "mlflow-artifacts://host/x")
    ),
    ok(
        "a place with a query",
        CREATE,
        {"name": "$name", "artifact_location": "s3://bucket/a?b=c"},
        ours=differs(
            "what is put behind it would be of the query", "INVALID_PARAMETER_VALUE", "fragment or parameters"
        ),
    ),
    bad(
        "half of a surrogate pair",
        CREATE,
        raw=b'{"name": "\\ud800"}',
        ours=differs("it says what is wrong", "INVALID_PARAMETER_VALUE", "surrogate"),
    ),
    bad("a tag without a key", CREATE, {"name": "$name", "tags": [{"value": "x"}]}, "(?i)key|name"),
    bad(
        "a tag with a key of 251 characters",
        CREATE,
        {"name": "$name", "tags": [tag("k" * 251, "x")]},
        "exceeds the maximum length of 250 characters",
    ),
    bad(
        "no content type", CREATE, None, "Bad Request. Content-Type header is missing", raw=b'{"name": "x"}', headers={}
    ),
    bad(
        "another content type",
        CREATE,
        None,
        "Bad Request. Content-Type must be one of",
        raw=b'{"name": "x"}',
        headers={"Content-Type": "text/plain"},
    ),
    bad(
        "malformed JSON is an empty request", CREATE, None, "Missing value for required parameter 'name'", raw=b'{"name'
    ),
    ok(
        "JSON inside a JSON string, as old clients send it",
        CREATE,
        '{"name": "$name"}',
        {"experiment_id": DIGITS},
    ),
)
_GETTING = (
    ok(
        "an active one",
        GET,
        NEW,
        {"experiment": experiment(experiment_id="$new_experiment")},
    ),
    ok(
        "the one that is always there",
        GET,
        {"experiment_id": "0"},
        {
            "experiment": with_others(
                experiment(experiment_id="0", name="Default", creation_time=int, last_update_time=int)
            )
        },
    ),
    ok("a deleted one", GET, DELETED, {"experiment": experiment(lifecycle_stage="deleted")}),
    missing(GET, {"experiment_id": "1"}, "experiment_id"),
    bad("an unknown one", GET, UNKNOWN, NO_ID, **NO_EXPERIMENT),
    bad("no integer", GET, {"experiment_id": "abc"}, NOT_AN_INTEGER),
    ok(
        "by name",
        BY_NAME,
        {"experiment_name": "Default"},
        {
            "experiment": with_others(
                experiment(experiment_id="0", name="Default", creation_time=int, last_update_time=int)
            )
        },
    ),
    ok(
        "a deleted one by name",
        BY_NAME,
        {"experiment_name": "$name"},
        {"experiment": experiment(name="$name", lifecycle_stage="deleted")},
        before=(
            call(CREATE, {"name": "$name"}, saves={"made": "experiment_id"}),
            call(DELETE, {"experiment_id": "$made"}),
        ),
    ),
    bad(
        "an unknown name",
        BY_NAME,
        {"experiment_name": "$name"},
        "Could not find experiment with name '$name'",
        **NO_EXPERIMENT,
    ),
    missing(BY_NAME, {"experiment_name": "x"}, "experiment_name"),
)
_CHANGING = (
    ok(
        "a new name",
        UPDATE,
        {**NEW, "new_name": "$name"},
        EMPTY,
        then=(call(GET, NEW, wanted={"experiment": experiment(name="$name")}),),
    ),
    ok(
        "the name it has",
        UPDATE,
        {"experiment_id": "$made", "new_name": "$name"},
        EMPTY,
        before=(call(CREATE, {"name": "$name"}, saves={"made": "experiment_id"}),),
    ),
    missing(UPDATE, {"experiment_id": "1", "new_name": "x"}, "experiment_id"),
    missing(UPDATE, {"experiment_id": "1", "new_name": "x"}, "new_name"),
    wrong_type(UPDATE, {"experiment_id": "$experiment", "new_name": "x"}, "new_name", 3, "3"),
    wrong_type(UPDATE, {"experiment_id": "1", "new_name": "x"}, "experiment_id", 1, "1"),
    bad("an unknown one", UPDATE, {**UNKNOWN, "new_name": "$name"}, NO_ID, **NO_EXPERIMENT),
    bad("no integer", UPDATE, {"experiment_id": "abc", "new_name": "$name"}, NOT_AN_INTEGER),
    bad(
        "a deleted one",
        UPDATE,
        {**DELETED, "new_name": "$name"},
        "Cannot rename a non-active experiment",
        "INVALID_STATE",
        500,
        ours=differs("a 500 makes clients retry for minutes", "INVALID_STATE", "(?i)active"),
    ),
    bad(
        "a name that is taken",
        UPDATE,
        {**NEW, "new_name": "Default"},
        "already exists|UNIQUE",
        "BAD_REQUEST",
    ),
    bad("a name of 501 characters", UPDATE, {**NEW, "new_name": "x" * 501}, "exceeds the maximum length of 500"),
    ok(
        "an active one",
        DELETE,
        NEW,
        EMPTY,
        then=(call(GET, NEW, wanted={"experiment": experiment(lifecycle_stage="deleted")}),),
    ),
    ok(
        "its runs with it",
        DELETE,
        NEW,
        EMPTY,
        before=(call("POST runs/create", NEW, saves={"made": "run.info.run_id"}),),
        then=(
            call(
                "GET runs/get",
                {"run_id": "$made"},
                wanted={"run": with_others({"info": run_info(lifecycle_stage="deleted")})},
            ),
        ),
    ),
    missing(DELETE, {}, "experiment_id"),
    bad("an unknown one", DELETE, UNKNOWN, NO_ID, **NO_EXPERIMENT),
    bad("a deleted one", DELETE, DELETED, "No Experiment with id=$deleted_experiment exists", **NO_EXPERIMENT),
    bad("no integer", DELETE, {"experiment_id": "abc"}, NOT_AN_INTEGER),
    ok(
        "a deleted one",
        RESTORE,
        NEW,
        EMPTY,
        before=(call(DELETE, NEW),),
        then=(call(GET, NEW, wanted={"experiment": experiment()}),),
    ),
    ok(
        "all its runs with it, those deleted before it too",
        RESTORE,
        NEW,
        EMPTY,
        before=(
            call("POST runs/create", NEW, saves={"made": "run.info.run_id"}),
            call("POST runs/delete", {"run_id": "$made"}),
            call(DELETE, NEW),
        ),
        then=(call("GET runs/get", {"run_id": "$made"}, wanted={"run": with_others({"info": run_info()})}),),
    ),
    missing(RESTORE, {}, "experiment_id"),
    bad("an unknown one", RESTORE, UNKNOWN, NO_ID, **NO_EXPERIMENT),
    bad(
        "an active one",
        RESTORE,
        {"experiment_id": "$experiment"},
        "No (deleted )?Experiment with id=$experiment exists",
        **NO_EXPERIMENT,
    ),
)
_TAGGED = {**NEW, "key": "k", "value": "v"}
_TAGGING = (
    ok(
        "a new tag",
        SET_TAG,
        _TAGGED,
        EMPTY,
        then=(call(GET, NEW, wanted={"experiment": experiment(**_tags(("k", "v")))}),),
    ),
    ok(
        "another value",
        SET_TAG,
        _TAGGED | {"value": "w"},
        EMPTY,
        before=(call(SET_TAG, _TAGGED),),
        then=(call(GET, NEW, wanted={"experiment": experiment(**_tags(("k", "w")))}),),
    ),
    ok("an empty value", SET_TAG, _TAGGED | {"value": ""}, EMPTY),
    ok("a value of 20000 characters", SET_TAG, _TAGGED | {"value": "v" * 20000}, EMPTY),
    bad(
        "a value of 20001 characters", SET_TAG, _TAGGED | {"value": "v" * 20001}, "exceeds the maximum length of 20000"
    ),
    bad("a key of 251 characters", SET_TAG, _TAGGED | {"key": "k" * 251}, "exceeds the maximum length of 250"),
    bad("a key that is a path upwards", SET_TAG, _TAGGED | {"key": "../k"}, "must not resolve to other names"),
    bad("a key with a forbidden character", SET_TAG, _TAGGED | {"key": "k#"}, "Names may only contain alphanumerics"),
    missing(SET_TAG, {"experiment_id": "1", "key": "k", "value": "v"}, "experiment_id"),
    missing(SET_TAG, {"experiment_id": "1", "key": "k", "value": "v"}, "key"),
    wrong_type(SET_TAG, {"experiment_id": "$experiment", "key": "k"}, "value", 1, "1"),
    wrong_type(SET_TAG, {"experiment_id": "$experiment", "value": "v"}, "key", 1, "1"),
    bad("of an unknown one", SET_TAG, {**UNKNOWN, "key": "k", "value": "v"}, NO_ID, **NO_EXPERIMENT),
    bad("of a deleted one", SET_TAG, {**DELETED, "key": "k", "value": "v"}, "must be in the 'active' state"),
    ok(
        "a tag that is there",
        DELETE_TAG,
        {**NEW, "key": "k"},
        EMPTY,
        before=(call(SET_TAG, _TAGGED),),
        then=(call(GET, NEW, wanted={"experiment": experiment()}),),
    ),
    bad("a tag that is not there", DELETE_TAG, {**NEW, "key": "none"}, "No tag with (name|key)", **NO_EXPERIMENT),
    missing(DELETE_TAG, {"experiment_id": "1", "key": "k"}, "key"),
    missing(DELETE_TAG, {"experiment_id": "1", "key": "k"}, "experiment_id"),
    bad("of an unknown one", DELETE_TAG, {**UNKNOWN, "key": "k"}, NO_ID, **NO_EXPERIMENT),
)
CASES: tuple[Case, ...] = (*_CREATING, *_GETTING, *_CHANGING, *_TAGGING)
