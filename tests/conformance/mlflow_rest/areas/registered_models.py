"""Registered models: create, get, rename, update, delete, tags, latest versions, search."""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Case, bad, call, differs, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, model_version, registered_model, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

CREATE, GET, RENAME = "POST registered-models/create", "GET registered-models/get", "POST registered-models/rename"
UPDATE, DELETE = "PATCH registered-models/update", "DELETE registered-models/delete"
SET_TAG, DELETE_TAG = "POST registered-models/set-tag", "DELETE registered-models/delete-tag"
LATEST, LATEST_GET = "POST registered-models/get-latest-versions", "GET registered-models/get-latest-versions"
SEARCH, CREATE_VERSION = "GET registered-models/search", "POST model-versions/create"

MODEL, NEW, UNKNOWN = {"name": "$model"}, {"name": "$new_model"}, {"name": "$name"}
NO_MODEL: dict[str, Any] = {
    "message": "Registered Model with name=$name not found",
    "error": "RESOURCE_DOES_NOT_EXIST",
    "status": 404,
}
SOURCE = "s3://bucket/model"


def one(**fields: Any) -> dict[str, Any]:
    """Return the shape of the answer with one registered model."""
    return {"registered_model": registered_model(**fields)}


def versions(count: int, name: str = "$new_model") -> tuple[Call, ...]:
    """Return the calls that create versions 1, 2, ... of a model."""
    return (call(CREATE_VERSION, {"name": name, "source": SOURCE}),) * count


def to_stage(version: str, stage: str, name: str = "$new_model", archive: bool = False) -> Call:
    """Return the call that moves a version to a stage."""
    body = {"name": name, "version": version, "stage": stage, "archive_existing_versions": archive}
    return call("POST model-versions/transition-stage", body)


_CREATING = (
    ok("a name alone", CREATE, UNKNOWN, one(name="$name"), then=(call(GET, UNKNOWN, wanted=one(name="$name")),)),
    ok(
        "with a description and tags",
        CREATE,
        {**UNKNOWN, "description": "it says", "tags": [tag("team", "blue"), tag("empty", "")]},
        one(name="$name", description="it says", tags=Unordered((tag("team", "blue"), tag("empty", "")))),
    ),
    ok("a name beyond ASCII", CREATE, {"name": "$name é 実験"}, one(name="$name é 実験")),
    missing(CREATE, {"name": "x"}, "name"),
    bad("an empty name", CREATE, {"name": ""}, "Missing value for required parameter 'name'"),
    wrong_type(CREATE, {}, "name", 5, "5"),
    wrong_type(CREATE, UNKNOWN, "tags", "x", '"x"'),
    wrong_type(CREATE, UNKNOWN, "description", 5, "5"),
    bad(
        "a name that is taken",
        CREATE,
        MODEL,
        r"Registered Model \(name=\$?.*\) already exists",
        "RESOURCE_ALREADY_EXISTS",
    ),
    *(
        bad(f"the name {name!r}", CREATE, {"name": name}, "(?i)Invalid name|name")
        for name in ("a/b", "a:b", "../a", ".", "..", "..a")
    ),
    bad(
        "a tag with a key of 251 characters",
        CREATE,
        {**UNKNOWN, "tags": [tag("k" * 251, "v")]},
        "exceeds the maximum length of 250",
    ),
    bad(
        "a tag with a value of 100001 characters",
        CREATE,
        {**UNKNOWN, "tags": [tag("k", "v" * 100_001)]},
        "exceeds the maximum length of 100000",
    ),
)
_GETTING = (
    ok("a model without versions", GET, MODEL, one(name="$model")),
    ok(
        "a model with versions and aliases",
        GET,
        NEW,
        one(
            latest_versions=[model_version(name="$new_model", version="2", source=SOURCE)],
            aliases=[{"alias": "champion", "version": "1"}],
        ),
        before=(*versions(2), call("POST registered-models/alias", {**NEW, "alias": "champion", "version": "1"})),
    ),
    missing(GET, {"name": "x"}, "name"),
    bad("an unknown one", GET, UNKNOWN, **NO_MODEL),
)
_CHANGING = (
    bad("a name that is another place", RENAME, {**NEW, "new_name": "..a"}, "This name would resolve to '..a'"),
    ok(
        "another name",
        RENAME,
        {**NEW, "new_name": "$name"},
        one(name="$name"),
        then=(call(GET, UNKNOWN, wanted=one(name="$name")),),
    ),
    ok(
        "its versions, tags and aliases come with it",
        RENAME,
        {**NEW, "new_name": "$name"},
        with_others({"registered_model": with_others({"name": "$name"})}),
        before=(
            *versions(1),
            call(SET_TAG, {**NEW, "key": "k", "value": "v"}),
            call("POST registered-models/alias", {**NEW, "alias": "champion", "version": "1"}),
        ),
        then=(
            call(
                "GET registered-models/alias",
                {**UNKNOWN, "alias": "champion"},
                wanted={"model_version": model_version(name="$name", aliases=["champion"])},
            ),
            call(GET, UNKNOWN, wanted={"registered_model": with_others({"tags": [tag("k", "v")]})}),
        ),
    ),
    bad("a name that is taken", RENAME, {**NEW, "new_name": "$model"}, "already exists", "RESOURCE_ALREADY_EXISTS"),
    bad("a name with a slash", RENAME, {**NEW, "new_name": "a/b"}, "(?i)name"),
    bad("an unknown one", RENAME, {**UNKNOWN, "new_name": "x-$name"}, **NO_MODEL),
    missing(RENAME, {"name": "$model", "new_name": "x"}, "name"),
    missing(RENAME, {"name": "$model", "new_name": "x"}, "new_name"),
    ok(
        "a description",
        UPDATE,
        {**NEW, "description": "new"},
        one(description="new"),
        then=(call(GET, NEW, wanted=one(description="new")),),
    ),
    missing(UPDATE, {"name": "$model", "description": "x"}, "name"),
    wrong_type(UPDATE, MODEL, "description", 5, "5"),
    bad("an unknown one", UPDATE, {**UNKNOWN, "description": "x"}, **NO_MODEL),
    ok("a model", DELETE, NEW, EMPTY),
    ok("a model with versions", DELETE, NEW, EMPTY, before=versions(2)),
    ok("its name is free again", CREATE, NEW, one(), before=(*versions(2), call(DELETE, NEW))),
    ok(
        "versions under that name begin again",
        CREATE_VERSION,
        {**NEW, "source": SOURCE},
        {"model_version": model_version(version="1")},
        before=(*versions(2), call(DELETE, NEW), call(CREATE, NEW)),
        ours=differs(
            "what loads version 1 never gets another model: numbers are not used again",
            answer={"model_version": model_version(version="3")},
        ),
    ),
    bad(
        "a deleted one is unknown",
        GET,
        NEW,
        "Registered Model with name=$new_model not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
        before=(call(DELETE, NEW),),
    ),
    missing(DELETE, {"name": "x"}, "name"),
    bad("an unknown one", DELETE, UNKNOWN, **NO_MODEL),
    ok("a body without a content type", DELETE, None, EMPTY, raw=b'{"name": "$new_model"}', headers={}),
)
_TAG = {**NEW, "key": "team", "value": "blue"}
_TAGS = (
    ok("a tag", SET_TAG, _TAG, EMPTY, then=(call(GET, NEW, wanted=one(tags=[tag("team", "blue")])),)),
    ok(
        "another value",
        SET_TAG,
        _TAG | {"value": "red"},
        EMPTY,
        before=(call(SET_TAG, _TAG),),
        then=(call(GET, NEW, wanted=one(tags=[tag("team", "red")])),),
    ),
    ok("an empty value", SET_TAG, _TAG | {"value": ""}, EMPTY),
    missing(SET_TAG, {"name": "$model", "key": "k"}, "name"),
    missing(SET_TAG, {"name": "$model", "key": "k"}, "key"),
    wrong_type(SET_TAG, {**MODEL, "key": "k"}, "value", 5, "5"),
    bad("of an unknown one", SET_TAG, {**UNKNOWN, "key": "k", "value": "v"}, **NO_MODEL),
    bad(
        "a key with a forbidden character",
        SET_TAG,
        {**MODEL, "key": "a#b", "value": "v"},
        "Names may only contain alphanumerics",
    ),
    ok(
        "a tag is deleted",
        DELETE_TAG,
        {**NEW, "key": "team"},
        EMPTY,
        before=(call(SET_TAG, _TAG),),
        then=(call(GET, NEW, wanted=one()),),
    ),
    ok("a tag that is not there is deleted", DELETE_TAG, {**NEW, "key": "none"}, EMPTY),
    missing(DELETE_TAG, {"name": "$model", "key": "k"}, "key"),
    bad("of an unknown one", DELETE_TAG, {**UNKNOWN, "key": "k"}, **NO_MODEL),
)
_STAGED = (*versions(3), to_stage("1", "Staging"), to_stage("2", "Production"))


def _latest(*wanted: tuple[str, str]) -> dict[str, Any]:
    return {
        "model_versions": Unordered(
            tuple(model_version(version=number, current_stage=stage) for number, stage in wanted)
        )
    }


_LATEST = (
    ok("of every stage", LATEST, NEW, _latest(("1", "Staging"), ("2", "Production"), ("3", "None")), before=_STAGED),
    ok("of one stage", LATEST, {**NEW, "stages": ["Production"]}, _latest(("2", "Production")), before=_STAGED),
    ok(
        "a stage in small letters",
        LATEST,
        {**NEW, "stages": ["production"]},
        _latest(("2", "Production")),
        before=_STAGED,
    ),
    ok("of a stage without one", LATEST, {**NEW, "stages": ["Archived"]}, EMPTY, before=_STAGED),
    ok(
        "by GET",
        LATEST_GET,
        {**NEW, "stages": ["Staging", "None"]},
        _latest(("1", "Staging"), ("3", "None")),
        before=_STAGED,
    ),
    ok("of a model without versions", LATEST, MODEL, EMPTY),
    missing(LATEST, {"name": "x"}, "name"),
    bad("of an unknown one", LATEST, UNKNOWN, **NO_MODEL),
    bad(
        "a stage that nobody knows",
        LATEST,
        {**MODEL, "stages": ["Limbo"]},
        r"Invalid Model Version stage: Limbo|Invalid Model Version stage",
    ),
)
CASES: tuple[Case, ...] = (*_CREATING, *_GETTING, *_CHANGING, *_TAGS, *_LATEST)
