"""Logged models: announced, finalised, described and deleted by facts in the log, beside those of the run that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtide.tracking.names import new_run_name
from runtide_queries.logged_models import (
    LoggedModelDetail,
    LoggedModelInfo,
    get_logged_model,
    get_run_of_logged_model,
)
from runtide_queries.server.mlflow.calls import Call, call_routes, missing
from runtide_queries.server.mlflow.entities import location_of, logged_model
from runtide_queries.server.mlflow.experiments import experiment_id, known
from runtide_queries.server.mlflow.runs import active
from runtide_queries.server.mlflow.validation import known_run_id
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelLink,
    RunModelsLinked,
    run_in_place_of,
)
from runtide_schemas.identity import new_model_id, now_ms
from runtide_schemas.limits import (
    MAX_LOGGED_MODEL_KEY_LENGTH,
    MAX_LOGGED_MODEL_NAME_LENGTH,
    MAX_LOGGED_MODEL_VALUE_LENGTH,
    check_model_pairs,
    check_text,
)

STATUSES = {
    "LOGGED_MODEL_PENDING": "PENDING",
    "LOGGED_MODEL_READY": "READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "FAILED",
}
_NOT_IN_NAMES = ("/", ":", ".", "%", '"', "'")
_LONGEST_TYPE = 500


async def create(call: Call) -> Any:
    """Announce a model, whose files are still to come."""
    found = (await known(call, experiment_id(call))).experiment
    if found.lifecycle_stage != "active":
        raise InvalidRequest(
            f"The experiment {found.experiment_id} must be in the 'active' state. Current state is {found.lifecycle_stage}."
        )
    model_id, source, at = new_model_id(), call.text("source_run_id"), now_ms()
    where = location_of(found.experiment_id, found.artifact_location)
    body = LoggedModelCreated(
        run_id=await _run_of(call, model_id, source),
        model_id=model_id,
        name=_checked_name(call.text("name") or new_run_name()),
        source_run_id=source,
        experiment_id=found.experiment_id,
        model_type=check_text(call.text("model_type"), "model_type", _LONGEST_TYPE),
        artifact_uri=f"{where.rstrip('/')}/models/{model_id}/artifacts",
        params=check_model_pairs(call.pairs("params"), "param"),
        tags=check_model_pairs(call.pairs("tags"), "tag"),
        at=at,
    )
    await call.stores.commands.state(body, actor=call.actor)
    return _answer(LoggedModelDetail(info=_announced(body), tags=body.tags, params=body.params, metrics=()))


async def get(call: Call) -> Any:
    """Give a model with its tags, params and metrics."""
    allow_deleted = call.flag("allow_deleted")
    await call.stores.fresh.runs()
    return _answer(await get_logged_model(call.stores.postgres, call.path["model_id"], allow_deleted=allow_deleted))


async def finalize(call: Call) -> Any:
    """Say what became of a model's files."""
    if "status" not in call:
        raise missing("status")
    status, message = call.choice("status", STATUSES, None), call.text("status_message")
    found = await _found(call, allow_deleted=True)
    body = LoggedModelFinalized(
        run_id=found.info.run_id,
        model_id=found.info.model_id,
        status=status,
        status_message=check_text(message, "status_message", MAX_LOGGED_MODEL_VALUE_LENGTH),
        at=now_ms(),
    )
    await call.stores.commands.state(body, actor=call.actor)
    return _answer(replace(found, info=replace(found.info, status=status, status_message=message, updated_at=body.at)))


async def delete(call: Call) -> Any:
    """Delete a model (soft); again is no error."""
    found = await _found(call, allow_deleted=True)
    if not found.info.deleted:
        body = LoggedModelDeleted(run_id=found.info.run_id, model_id=found.info.model_id, at=now_ms())
        await call.stores.commands.state(body, actor=call.actor)
    return {}


async def set_tags(call: Call) -> Any:
    """Set tags of a model."""
    tags = check_model_pairs(call.pairs("tags"), "tag")
    found = await _found(call)
    if tags:
        body = LoggedModelTagsSet(run_id=found.info.run_id, model_id=found.info.model_id, tags=tags, at=now_ms())
        await call.stores.commands.state(body, actor=call.actor)
    return {}


async def delete_tag(call: Call) -> Any:
    """Delete a tag of a model, which must be there."""
    key, found = call.path["key"], await _found(call)
    model_id = found.info.model_id
    if key not in found.tags:
        raise NotFound(f"No tag with key {key!r} found for model with ID {model_id!r}.")
    body = LoggedModelTagsDeleted(run_id=found.info.run_id, model_id=model_id, keys=(key,), at=now_ms())
    await call.stores.commands.state(body, actor=call.actor)
    return {}


async def log_params(call: Call) -> Any:
    """Log params of a model. The same value again is fine; another one is refused, also when two log at once."""
    params = check_model_pairs(call.pairs("params"), "param")
    found = await _found(call)
    _refuse_clashes(found, params)
    if any(found.params.get(key) != value for key, value in params.items()):
        about = {"run_id": found.info.run_id, "model_id": found.info.model_id}
        body = LoggedModelParamsLogged(**about, params=params, at=now_ms())
        written = await call.stores.commands.state(body, actor=call.actor)
        await call.stores.fresh.of([written])
        _refuse_clashes(await get_logged_model(call.stores.postgres, found.info.model_id, allow_deleted=True), params)
    return {}


async def log_outputs(call: Call) -> Any:
    """Log that a run made models."""
    run_id = known_run_id(call.run_id())
    links = [
        ModelLink(model_id=one.text("model_id", required=True), role="output", step=one.integer("step"))
        for one in call.objects("models", required=True)
    ]
    await active(call, run_id)
    await link_models(call, run_id, links)
    return {}


async def link_models(call: Call, run_id: str, links: Sequence[ModelLink]) -> None:
    """Publish that a run used or made models; nothing where there are none."""
    for link in links:
        check_text(link.model_id, "model_id", MAX_LOGGED_MODEL_KEY_LENGTH)
    if links:
        await call.stores.commands.state(RunModelsLinked(run_id=run_id, links=tuple(links)), actor=call.actor)


async def _found(call: Call, *, allow_deleted: bool = False) -> LoggedModelDetail:
    """Return the model that a call is about, as what the log says of it has left it.

    Metrics that runs other than its own have logged of it may be missing: nobody waits for all runs to write to a model.
    """
    model_id = call.path["model_id"]
    run_id = await get_run_of_logged_model(call.stores.postgres, model_id)
    await (call.stores.fresh.runs() if run_id is None else call.stores.fresh.run(run_id))
    return await get_logged_model(call.stores.postgres, model_id, allow_deleted=allow_deleted)


async def _run_of(call: Call, model_id: str, source: str) -> str:
    """Return what a model's events belong to: the run that it came from, if that is one of ours."""
    if source:
        try:
            state = await call.stores.recent.state(known_run_id(source))
        except NotFound:
            return run_in_place_of(model_id)
        if state.lifecycle_stage != "purged":  # of a purged run no later event counts
            return source
    return run_in_place_of(model_id)


def _announced(body: LoggedModelCreated) -> LoggedModelInfo:
    return LoggedModelInfo(
        model_id=body.model_id,
        run_id=body.run_id,
        source_run_id=body.source_run_id,
        experiment_id=body.experiment_id,
        name=body.name,
        model_type=body.model_type,
        status="PENDING",
        status_message="",
        artifact_path="",
        uri=body.artifact_uri,
        digest="",
        size=0,
        flavors=(),
        signature="",
        created_at=body.at,
        updated_at=body.at,
        deleted=False,
    )


def _refuse_clashes(found: LoggedModelDetail, params: Mapping[str, str]) -> None:
    for key, value in params.items():
        if found.params.get(key, value) != value:
            raise InvalidRequest(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                f"value='{found.params[key]}' for model ID='{found.info.model_id}'. Attempted logging new value '{value}'."
            )


def _checked_name(name: str) -> str:
    if any(character in name for character in _NOT_IN_NAMES):
        raise InvalidRequest(
            f"Invalid model name ({name[:300]!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {_NOT_IN_NAMES}"
        )
    return check_text(name, "name", MAX_LOGGED_MODEL_NAME_LENGTH)


def _answer(found: LoggedModelDetail) -> dict[str, Any]:
    return {"model": logged_model(found)}


_ONE = "logged-models/{model_id}"
ROUTES = (
    *call_routes("POST", "logged-models", create, Policy.LOG, "Announce a logged model"),
    *call_routes("GET", _ONE, get, Policy.READ_OR_LOG, "Give a logged model"),
    *call_routes("PATCH", _ONE, finalize, Policy.LOG, "Say what became of a logged model's files"),
    *call_routes("DELETE", _ONE, delete, Policy.OPERATE, "Delete a logged model"),
    *call_routes("PATCH", f"{_ONE}/tags", set_tags, Policy.LOG, "Tag a logged model"),
    *call_routes("DELETE", f"{_ONE}/tags/{{key:path}}", delete_tag, Policy.LOG, "Delete a logged model's tag"),
    *call_routes("POST", f"{_ONE}/params", log_params, Policy.LOG, "Log params of a logged model"),
    *call_routes("POST", "runs/outputs", log_outputs, Policy.LOG, "Log the models that a run made"),
)
