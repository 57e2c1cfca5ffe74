"""Runs: begun, renamed, ended, deleted and restored by facts in the log."""

from typing import Any

from runtide.tracking.names import new_run_name
from runtide_queries.commands import RunState
from runtide_queries.run_states import get_run_state
from runtide_queries.search import get_latest_run
from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.mlflow.entities import RUN_NAME, location_of, run, run_info, tags_of
from runtide_queries.server.mlflow.experiments import experiment_id, known
from runtide_queries.server.mlflow.validation import kept_tags, known_run_id
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.runs import RunDeleted, RunRestored, RunStarted, RunUpdated, TagsSet
from runtide_schemas.identity import new_run_id, now_ms

NUMBERED = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
"""``RunStatus`` of MLflow's ``service.proto``: proto3 JSON takes an enumeration's numbers too."""
STATUSES = {name: name for name in ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")}
_PARENT, _USER = "mlflow.parentRunId", "mlflow.user"
_SOURCE_NAME, _SOURCE_TYPE, _SOURCE_VERSION = "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit"


async def create(call: Call) -> Any:
    """Begin a run."""
    found = await known(call, experiment_id(call))
    if found.experiment.lifecycle_stage != "active":
        raise InvalidRequest(
            f"The experiment {found.experiment.experiment_id} must be in the 'active' state. "
            f"Current state is {found.experiment.lifecycle_stage}."
        )
    tags = kept_tags(call.pairs("tags"))
    name = _name(call.text("run_name"), tags)
    run_id = new_run_id()
    where = location_of(found.experiment.experiment_id, found.experiment.artifact_location)
    body = RunStarted(
        run_id=run_id,
        name=name,
        experiment_id=found.experiment.experiment_id,
        experiment_name=found.experiment.name,
        user=call.text("user_id") or tags.get(_USER, ""),
        source_name=tags.get(_SOURCE_NAME, ""),
        source_type=tags.get(_SOURCE_TYPE, ""),
        source_version=tags.get(_SOURCE_VERSION, ""),
        parent_run_id=tags.get(_PARENT, ""),
        start_time=call.integer("start_time"),
        artifact_uri=f"{where.rstrip('/')}/{run_id}/artifacts",
        tags={**tags, RUN_NAME: name},
    )
    call.stores.recent.start()
    await call.stores.commands.state(body, actor=call.actor or body.user)
    state = RunState(
        run_id=run_id,
        experiment_id=body.experiment_id,
        name=name,
        user_id=body.user,
        status="RUNNING",
        start_time=body.start_time,
        end_time=None,
        artifact_uri=body.artifact_uri,
        lifecycle_stage="active",
    )
    return {"run": {"info": run_info(state), "data": {"tags": tags_of(body.tags)}, "inputs": {}}}


async def get(call: Call) -> Any:
    """Give a run with its data, deleted ones too."""
    run_id = known_run_id(call.run_id())
    await call.stores.fresh.metrics(run_id)
    return {"run": run(await get_latest_run(call.stores.postgres, run_id))}


async def update(call: Call) -> Any:
    """Change a run's name, status or end."""
    state = await active(call, known_run_id(call.run_id()))
    status = _status(call)
    name = call.text("run_name")
    end_time = call.optional_integer("end_time") or None  # 0 is MLflow's word for none
    body = RunUpdated(run_id=state.run_id, name=name or None, status=status, end_time=end_time)
    commands = call.stores.commands
    published = await commands.state(body, actor=call.actor)
    if name:
        await commands.state(TagsSet(run_id=state.run_id, tags={RUN_NAME: name}), actor=call.actor)
    after = await call.stores.recent.after(state.run_id, published)
    if after is None:
        await call.stores.fresh.run(state.run_id)
        after = await get_run_state(call.stores.postgres, state.run_id)
    return {"run_info": run_info(after)}


async def delete(call: Call) -> Any:
    """Delete a run (soft); again is no error."""
    state = await call.stores.recent.state(known_run_id(call.run_id()))
    if state.lifecycle_stage == "active":
        await call.stores.commands.state(RunDeleted(run_id=state.run_id, at=now_ms()), actor=call.actor)
        call.stores.recent.forget(state.run_id)
    return {}


async def restore(call: Call) -> Any:
    """Restore a deleted run; one that is not deleted is no error."""
    state = await call.stores.recent.state(known_run_id(call.run_id()))
    if state.lifecycle_stage == "purged":
        raise NotFound(f"Run with id={state.run_id} not found: it was purged, which nothing brings back")
    if state.lifecycle_stage != "active":
        await _check_experiment(call, state)
        await call.stores.commands.state(RunRestored(run_id=state.run_id, at=now_ms()), actor=call.actor)
        call.stores.recent.forget(state.run_id)
    return {}


async def active(call: Call, run_id: str) -> RunState:
    """Return a run that may be written to.

    Raises:
        NotFound: there is none of that id.
        InvalidRequest: it is deleted.
    """
    state = await call.stores.recent.state(run_id)
    if state.lifecycle_stage != "active":
        raise InvalidRequest(
            f"The run {run_id} must be in the 'active' state. Current state is {state.lifecycle_stage}."
        )
    return state


async def _check_experiment(call: Call, state: RunState) -> None:
    """Refuse to restore a run whose experiment is deleted: it would stay deleted with it, and nobody would be told."""
    try:
        found = (await known(call, state.experiment_id)).experiment
    except NotFound:  # the run's experiment is still to be made, so nobody has deleted it
        return
    if found.lifecycle_stage != "active":
        raise InvalidRequest(
            f"The run {state.run_id} is deleted with its experiment {found.experiment_id}: restore that, and its runs are restored."
        )


def _status(call: Call) -> str | None:
    """Return the status that is asked for, by name or number; MLflow ignores a name that it does not know."""
    if call.is_number("status"):
        if (number := call.integer("status")) not in NUMBERED:
            raise call.wrong("status")
        return NUMBERED[number]
    return STATUSES.get(call.text("status"))


def _name(stated: str, tags: dict[str, str]) -> str:
    """Return the name of a new run: the one given, in either of its two places."""
    tagged = tags.get(RUN_NAME, "")
    if stated and tagged and stated != tagged:
        raise InvalidRequest(
            f"Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='{stated}', "
            f"mlflow.runName='{tagged}')."
        )
    return stated or tagged or new_run_name()


ROUTES = (
    *call_routes("POST", "runs/create", create, Policy.LOG, "Begin a run"),
    *call_routes("GET", "runs/get", get, Policy.READ_OR_LOG, "Give a run"),
    *call_routes("POST", "runs/update", update, Policy.LOG, "Change a run's name, status or end"),
    *call_routes("POST", "runs/delete", delete, Policy.OPERATE, "Delete a run"),
    *call_routes("POST", "runs/restore", restore, Policy.OPERATE, "Restore a run"),
)
