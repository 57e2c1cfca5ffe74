"""Versions of registered models: create, get, update, delete, tags, stages, aliases, download-uri."""

from typing import Any

from tests.conformance.mlflow_rest.areas.registered_models import NO_MODEL, SOURCE, to_stage, versions
from tests.conformance.mlflow_rest.case import Case, bad, call, differs, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_MODEL, model_version, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

CREATE, GET, UPDATE = "POST model-versions/create", "GET model-versions/get", "PATCH model-versions/update"
DELETE, STAGE = "DELETE model-versions/delete", "POST model-versions/transition-stage"
SET_TAG, DELETE_TAG = "POST model-versions/set-tag", "DELETE model-versions/delete-tag"
DOWNLOAD, ALIAS = "GET model-versions/get-download-uri", "registered-models/alias"

NAME, NEW, UNKNOWN = {"name": "$new_model"}, {"name": "$new_version", "version": "1"}, {"name": "$name", "version": "1"}
SHARED = {"name": "$version", "version": "1"}
NINTH = {"name": "$version", "version": "9"}
NO_VERSION: dict[str, Any] = {
    "message": r"Model Version \(name=$version, version=9\) not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
NO_VERSION_OF_NONE: dict[str, Any] = {
    "message": r"(Model Version \(name=$name, version=1\)|Registered Model with name=$name) not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
NO_INTEGER = "Parameter 'version' must be an integer, got 'abc'"


def one(**fields: Any) -> dict[str, Any]:
    """Return the shape of the answer with one version."""
    return {"model_version": model_version(**fields)}


def _source(source: str) -> Case:
    return bad(f"the source {source!r}", CREATE, {"name": "$model", "source": source}, "Invalid model version source")


_CREATING = (
    ok(
        "a source alone",
        CREATE,
        {**NAME, "source": SOURCE},
        one(name="$new_model", version="1", source=SOURCE),
        then=(call(GET, {**NAME, "version": "1"}, wanted=one(name="$new_model", source=SOURCE)),),
    ),
    ok(
        "all there is",
        CREATE,
        {
            **NAME,
            "source": SOURCE,
            "run_id": "$run",
            "run_link": "http://x/y",
            "description": "it says",
            "tags": [tag("a", "1"), tag("b", "")],
        },
        one(run_id="$run", run_link="http://x/y", description="it says", tags=Unordered((tag("a", "1"), tag("b", "")))),
    ),
    ok("the next number", CREATE, {**NAME, "source": SOURCE}, one(version="3"), before=versions(2)),
    ok(
        "numbers of deleted ones are not used again",
        CREATE,
        {**NAME, "source": SOURCE},
        one(version="3"),
        before=(*versions(2), call(DELETE, {**NAME, "version": "2"})),
    ),
    ok("a run that nobody knows", CREATE, {**NAME, "source": SOURCE, "run_id": "f" * 32}, one(run_id="f" * 32)),
    ok(
        "of a logged model",
        CREATE,
        {**NAME, "source": "models:/$new_logged_model", "model_id": "$new_logged_model"},
        with_others(
            {"model_version": with_others({"version": "1", "source": "models:/$new_logged_model", "run_id": "$run"})}
        ),
        then=(
            call(
                DOWNLOAD,
                {**NAME, "version": "1"},
                wanted={"artifact_uri": "mlflow-artifacts:/$experiment/models/$new_logged_model/artifacts"},
            ),
            call(
                "GET logged-models/$new_logged_model",
                wanted={"model": with_others({"info": with_others({"tags": [tag("mlflow.modelVersions", str)]})})},
            ),
        ),
    ),
    ok(
        "a copy of another version",
        CREATE,
        {**NAME, "source": "models:/$new_version/1"},
        one(source="models:/$new_version/1"),
        then=(call(DOWNLOAD, {**NAME, "version": "1"}, wanted={"artifact_uri": SOURCE}),),
    ),
    missing(CREATE, {"name": "$model", "source": "s3://b/x"}, "name"),
    missing(CREATE, {"name": "$model", "source": "s3://b/x"}, "source"),
    wrong_type(CREATE, {"name": "$model"}, "source", 5, "5"),
    wrong_type(CREATE, {"name": "$model", "source": SOURCE}, "tags", "x", '"x"'),
    wrong_type(CREATE, {"name": "$model", "source": SOURCE}, "run_id", 5, "5"),
    bad("of an unknown model", CREATE, {"name": "$name", "source": SOURCE}, **NO_MODEL),
    bad(
        "of an unknown logged model",
        CREATE,
        {"name": "$model", "source": f"models:/{UNKNOWN_MODEL}", "model_id": UNKNOWN_MODEL},
        "Logged model with ID '.*' not found",
        "INTERNAL_ERROR",
        500,
        ours=differs("a mistake of the caller is no failure of the server", "INVALID_PARAMETER_VALUE", "not found"),
    ),
    _source("/etc/passwd"),
    _source("file:///etc/passwd"),
    _source("s3://bucket/../x"),
    _source("mlflow-artifacts:/0/%2e%2e/x"),
    bad(
        "a source of another host",
        CREATE,
        {"name": "$model", "source": "http://host/a/..%2f..%2fx"},
        "'source' cannot use the 'http' scheme|Invalid model version source",
    ),
    bad(
        "a source of another host's HDFS",
        CREATE,
        {"name": "$model", "source": "hdfs://host/a"},
        "'source' cannot use the 'hdfs' scheme",
    ),
)
_GETTING = (
    ok("one", GET, SHARED, one(name="$version", version="1", source=SOURCE)),
    ok("a number", GET, {"name": "$version", "version": 1}, one(version="1")),
    missing(GET, {"name": "$version", "version": "1"}, "name"),
    missing(GET, {"name": "$version", "version": "1"}, "version"),
    bad("a number that is none", GET, {"name": "$version", "version": "abc"}, NO_INTEGER),
    bad("an unknown one", GET, NINTH, **NO_VERSION),
    bad("of an unknown model", GET, UNKNOWN, **NO_VERSION_OF_NONE),
    bad(
        "a deleted one",
        GET,
        NEW,
        r"Model Version \(name=$new_version, version=1\) not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
        before=(call(DELETE, NEW),),
    ),
    ok("where it is", DOWNLOAD, SHARED, {"artifact_uri": SOURCE}),
    bad("where an unknown one is", DOWNLOAD, NINTH, **NO_VERSION),
    bad("where no number is", DOWNLOAD, {"name": "$version", "version": "abc"}, NO_INTEGER),
)
_CHANGING = (
    ok(
        "a description",
        UPDATE,
        {**NEW, "description": "new"},
        one(description="new"),
        then=(call(GET, NEW, wanted=one(description="new")),),
    ),
    ok("an empty description", UPDATE, {**NEW, "description": ""}, one(description="")),
    missing(UPDATE, {"name": "$version", "version": "1", "description": "x"}, "name"),
    missing(UPDATE, {"name": "$version", "version": "1", "description": "x"}, "version"),
    wrong_type(UPDATE, SHARED, "version", 1, "1"),
    wrong_type(UPDATE, SHARED, "description", 1, "1"),
    bad("an unknown one", UPDATE, {**NINTH, "description": "x"}, **NO_VERSION),
    bad("a number that is none", UPDATE, {"name": "$version", "version": "abc", "description": "x"}, NO_INTEGER),
    ok("a version", DELETE, NEW, EMPTY),
    missing(DELETE, {"name": "$version", "version": "1"}, "name"),
    missing(DELETE, {"name": "$version", "version": "1"}, "version"),
    bad("an unknown one", DELETE, NINTH, **NO_VERSION),
    bad("a deleted one", DELETE, NEW, "not found", "RESOURCE_DOES_NOT_EXIST", 404, before=(call(DELETE, NEW),)),
    bad("a number that is none", DELETE, {"name": "$version", "version": "abc"}, NO_INTEGER),
)
_TAG = {**NEW, "key": "team", "value": "blue"}
_TAGS = (
    ok("a tag", SET_TAG, _TAG, EMPTY, then=(call(GET, NEW, wanted=one(tags=[tag("team", "blue")])),)),
    ok(
        "another value",
        SET_TAG,
        _TAG | {"value": ""},
        EMPTY,
        before=(call(SET_TAG, _TAG),),
        then=(call(GET, NEW, wanted=one(tags=[tag("team", "")])),),
    ),
    missing(SET_TAG, {**SHARED, "key": "k"}, "version"),
    missing(SET_TAG, {**SHARED, "key": "k"}, "key"),
    wrong_type(SET_TAG, {**SHARED, "key": "k"}, "value", 5, "5"),
    bad("of an unknown version", SET_TAG, {**NINTH, "key": "k", "value": "v"}, **NO_VERSION),
    bad(
        "a key with a forbidden character",
        SET_TAG,
        {**SHARED, "key": "a#b", "value": "v"},
        "Names may only contain alphanumerics",
    ),
    bad(
        "a value of 100001 characters",
        SET_TAG,
        {**SHARED, "key": "k", "value": "v" * 100_001},
        "exceeds the maximum length of 100000",
    ),
    ok(
        "a tag is deleted",
        DELETE_TAG,
        {**NEW, "key": "team"},
        EMPTY,
        before=(call(SET_TAG, _TAG),),
        then=(call(GET, NEW, wanted=one()),),
    ),
    ok("a tag that is not there is deleted", DELETE_TAG, {**SHARED, "key": "none"}, EMPTY),
    missing(DELETE_TAG, {**SHARED, "key": "k"}, "key"),
    bad("of an unknown version", DELETE_TAG, {**NINTH, "key": "k"}, **NO_VERSION),
)
_STAGES = (
    *(
        ok(
            f"to {stage}",
            STAGE,
            {**NEW, "stage": stage, "archive_existing_versions": False},
            one(current_stage=stage),
            then=(call(GET, NEW, wanted=one(current_stage=stage)),),
        )
        for stage in ("Staging", "Production", "Archived", "None")
    ),
    ok("a stage in small letters", STAGE, {**NEW, "stage": "production"}, one(current_stage="Production")),
    ok(
        "others of the stage are archived",
        STAGE,
        {**NAME, "version": "2", "stage": "Production", "archive_existing_versions": True},
        one(version="2", current_stage="Production"),
        before=(*versions(2), to_stage("1", "Production")),
        then=(call(GET, {**NAME, "version": "1"}, wanted=one(current_stage="Archived")),),
    ),
    ok(
        "or stay",
        STAGE,
        {**NAME, "version": "2", "stage": "Production", "archive_existing_versions": False},
        one(version="2", current_stage="Production"),
        before=(*versions(2), to_stage("1", "Production")),
        then=(call(GET, {**NAME, "version": "1"}, wanted=one(current_stage="Production")),),
    ),
    bad("a stage that nobody knows", STAGE, {**SHARED, "stage": "Limbo"}, "Invalid Model Version stage"),
    bad(
        "others cannot be archived from this stage",
        STAGE,
        {**NEW, "stage": "None", "archive_existing_versions": True},
        "(?i)archive_existing_versions|is not an Active stage",
        "INTERNAL_ERROR",
        500,
        ours=differs(
            "a mistake of the caller is no failure of the server",
            "INVALID_PARAMETER_VALUE",
            "(?i)archive_existing_versions|is not an Active stage",
        ),
    ),
    missing(STAGE, {**SHARED, "stage": "Staging"}, "name"),
    missing(STAGE, {**SHARED, "stage": "Staging"}, "version"),
    missing(STAGE, {**SHARED, "stage": "Staging"}, "stage"),
    bad("an unknown one", STAGE, {**NINTH, "stage": "Staging"}, **NO_VERSION),
    bad("a number that is none", STAGE, {"name": "$version", "version": "abc", "stage": "Staging"}, NO_INTEGER),
)
_SET = {**NEW, "alias": "champion"}
_ALIASES = (
    ok(
        "a new one",
        f"POST {ALIAS}",
        _SET,
        EMPTY,
        then=(
            call(
                f"GET {ALIAS}",
                {"name": "$new_version", "alias": "champion"},
                wanted=one(version="1", aliases=["champion"]),
            ),
        ),
    ),
    ok(
        "it moves",
        f"POST {ALIAS}",
        {**NAME, "alias": "champion", "version": "2"},
        EMPTY,
        before=(*versions(2), call(f"POST {ALIAS}", {**NAME, "alias": "champion", "version": "1"})),
        then=(
            call(f"GET {ALIAS}", {**NAME, "alias": "champion"}, wanted=one(version="2", aliases=["champion"])),
            call(GET, {**NAME, "version": "1"}, wanted=one()),
        ),
    ),
    ok("the same again", f"POST {ALIAS}", _SET, EMPTY, before=(call(f"POST {ALIAS}", _SET),)),
    ok(
        "two of one version",
        f"GET {ALIAS}",
        {"name": "$new_version", "alias": "b"},
        one(aliases=Unordered(("a", "b"))),
        before=tuple(call(f"POST {ALIAS}", {**NEW, "alias": alias}) for alias in "ab"),
    ),
    missing(f"POST {ALIAS}", {**SHARED, "alias": "a"}, "name"),
    missing(f"POST {ALIAS}", {**SHARED, "alias": "a"}, "version"),
    missing(f"POST {ALIAS}", {**SHARED, "alias": "a"}, "alias"),
    *(
        bad(f"the alias {alias!r}", f"POST {ALIAS}", {**SHARED, "alias": alias}, "(?i)alias")
        for alias in ("latest", "LATEST", "v1", "V12", "a b", "a/b", "a@b")
    ),
    bad(
        "an alias of 256 characters",
        f"POST {ALIAS}",
        {**SHARED, "alias": "a" * 256},
        "exceeds the maximum length of 255",
    ),
    bad("an unknown version", f"POST {ALIAS}", {**NINTH, "alias": "a"}, **NO_VERSION),
    bad("an unknown model", f"POST {ALIAS}", {**UNKNOWN, "alias": "a"}, **NO_VERSION_OF_NONE),
    bad("a number that is none", f"POST {ALIAS}", {"name": "$version", "version": "abc", "alias": "a"}, NO_INTEGER),
    bad(
        "an alias that nobody knows",
        f"GET {ALIAS}",
        {"name": "$version", "alias": "none"},
        "Registered model alias none not found",
    ),
    bad(
        "of an unknown model",
        f"GET {ALIAS}",
        {"name": "$name", "alias": "none"},
        "(?i)not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    missing(f"GET {ALIAS}", {"name": "$version", "alias": "a"}, "alias"),
    bad(
        "of a deleted version",
        f"GET {ALIAS}",
        {"name": "$new_version", "alias": "champion"},
        "Registered model alias champion not found",
        before=(call(f"POST {ALIAS}", _SET), call(DELETE, NEW)),
    ),
    ok(
        "it is deleted",
        f"DELETE {ALIAS}",
        {"name": "$new_version", "alias": "champion"},
        EMPTY,
        before=(call(f"POST {ALIAS}", _SET),),
        then=(call(GET, NEW, wanted=one()),),
    ),
    ok("one that is not there is deleted", f"DELETE {ALIAS}", {"name": "$version", "alias": "none"}, EMPTY),
    missing(f"DELETE {ALIAS}", {"name": "$version", "alias": "a"}, "alias"),
    bad("of an unknown model is deleted", f"DELETE {ALIAS}", {"name": "$name", "alias": "a"}, **NO_MODEL),
)
CASES: tuple[Case, ...] = (*_CREATING, *_GETTING, *_CHANGING, *_TAGS, *_STAGES, *_ALIASES)
