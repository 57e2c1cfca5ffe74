"""Experiments: made, renamed, deleted and described by the registrar's decisions."""

import asyncio
import re
from typing import Any

from runtide_queries.experiments import ExperimentDetail, get_experiment, get_experiment_by_name
from runtide_queries.run_states import get_deleted_runs
from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.mlflow.entities import experiment
from runtide_queries.server.mlflow.validation import check_experiment_name, check_experiment_tags, check_location
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.requests import (
    CreateExperiment,
    DeleteExperiment,
    DeleteExperimentTags,
    RenameExperiment,
    RestoreExperiment,
    SetExperimentTags,
)
from runtide_schemas.events.runs import RunRestored
from runtide_schemas.identity import now_ms

_AT_ONCE = 100
"""How many runs are restored at once."""
_ID = re.compile(r"[0-9]{1,18}\Z")


async def create(call: Call) -> Any:
    """Make an experiment under a free name."""
    request = CreateExperiment(
        name=check_experiment_name(call.text("name", required=True)),
        artifact_location=check_location(call.text("artifact_location")),
        tags=check_experiment_tags(call.pairs("tags")),
    )
    fact = await call.stores.commands.ask(request, actor=call.actor)
    return {"experiment_id": fact.experiment_id}


async def get(call: Call) -> Any:
    """Give an experiment, deleted ones too."""
    found = await known(call, experiment_id(call))
    return {"experiment": experiment(found.experiment, found.tags)}


async def get_by_name(call: Call) -> Any:
    """Give the experiment of a name, deleted ones too."""
    name = call.text("experiment_name", required=True)
    await call.stores.fresh.catalogue()
    try:
        found = await get_experiment_by_name(call.stores.postgres, name)
    except NotFound as error:
        raise NotFound(f"Could not find experiment with name '{name}'") from error
    detail = await get_experiment(call.stores.postgres, found.experiment_id)
    return {"experiment": experiment(detail.experiment, detail.tags)}


async def update(call: Call) -> Any:
    """Rename an experiment."""
    name = check_experiment_name(call.text("new_name", required=True))
    request = RenameExperiment(experiment_id=experiment_id(call), name=name)
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def delete(call: Call) -> Any:
    """Delete an experiment (soft); its runs go with it."""
    await call.stores.commands.ask(DeleteExperiment(experiment_id=experiment_id(call)), actor=call.actor)
    await call.stores.fresh.catalogue()  # reads of its runs wait for what was said of these only
    call.stores.recent.forget_all()
    return {}


async def restore(call: Call) -> Any:
    """Restore an experiment with all its runs, those that were deleted before it too, as MLflow does.

    The runs come first: broken off in between, the experiment is still deleted, and can be restored again.
    """
    found = await known(call, experiment_id(call))
    if found.experiment.lifecycle_stage != "active":
        await _restore_runs(call, found.experiment.experiment_id)
    request = RestoreExperiment(experiment_id=found.experiment.experiment_id)
    await call.stores.commands.ask(request, actor=call.actor)
    await call.stores.fresh.catalogue()
    call.stores.recent.forget_all()
    return {}


async def set_tag(call: Call) -> Any:
    """Set a tag of an experiment."""
    tags = check_experiment_tags({call.text("key", required=True): call.text("value")})
    await call.stores.commands.ask(SetExperimentTags(experiment_id=experiment_id(call), tags=tags), actor=call.actor)
    return {}


async def delete_tag(call: Call) -> Any:
    """Delete a tag of an experiment."""
    keys = (call.text("key", required=True),)
    request = DeleteExperimentTags(experiment_id=experiment_id(call), keys=keys)
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def _restore_runs(call: Call, of_experiment: str) -> None:
    await call.stores.fresh.everything()
    run_ids = await get_deleted_runs(call.stores.postgres, of_experiment)
    for first in range(0, len(run_ids), _AT_ONCE):
        facts = (RunRestored(run_id=run_id, at=now_ms()) for run_id in run_ids[first : first + _AT_ONCE])
        await asyncio.gather(*(call.stores.commands.state(fact, actor=call.actor) for fact in facts))


def experiment_id(call: Call) -> str:
    """Return the experiment that a call is about.

    Raises:
        InvalidRequest: it is no number.
    """
    return checked_experiment_id(call.text("experiment_id", required=True))


def checked_experiment_id(found: str) -> str:
    """Return an experiment's id; raises as ``experiment_id``."""
    if not _ID.match(found):
        raise InvalidRequest(f"Invalid experiment ID '{found[:200]}'. Experiment ID must be a valid integer.")
    return found


async def known(call: Call, identifier: str) -> ExperimentDetail:
    """Return an experiment as it is by now, deleted ones too.

    Raises:
        NotFound: there is none.
    """
    try:
        return await call.stores.experiments.get(identifier)
    except NotFound as error:
        raise NotFound(f"No Experiment with id={identifier} exists") from error


ROUTES = (
    *call_routes("POST", "experiments/create", create, Policy.LOG, "Make an experiment"),
    *call_routes("GET", "experiments/get", get, Policy.READ_OR_LOG, "Give an experiment"),
    *call_routes("GET", "experiments/get-by-name", get_by_name, Policy.READ_OR_LOG, "Give the experiment of a name"),
    *call_routes("POST", "experiments/update", update, Policy.OPERATE, "Rename an experiment"),
    *call_routes("POST", "experiments/delete", delete, Policy.OPERATE, "Delete an experiment"),
    *call_routes("POST", "experiments/restore", restore, Policy.OPERATE, "Restore an experiment"),
    *call_routes("POST", "experiments/set-experiment-tag", set_tag, Policy.LOG, "Tag an experiment"),
    *call_routes("POST", "experiments/delete-experiment-tag", delete_tag, Policy.LOG, "Delete an experiment's tag"),
)
