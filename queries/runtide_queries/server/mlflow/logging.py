"""What runs log: metrics, params and tags. Points are durable when a call returns; of a param it is also decided which value won."""

import asyncio
from typing import Any

from runtide_queries.commands import Points, RunState
from runtide_queries.run_states import get_params, has_tag
from runtide_queries.server.mlflow.calls import Call, Fields, call_routes
from runtide_queries.server.mlflow.entities import RUN_NAME
from runtide_queries.server.mlflow.model_metrics import log_model_points, model_points
from runtide_queries.server.mlflow.runs import active
from runtide_queries.server.mlflow.validation import (
    check_batch_limits,
    check_run_id,
    checked_params,
    checked_point,
    checked_tags,
    known_run_id,
    plain_points,
    unique_params,
)
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.logged_models import ModelPoint
from runtide_schemas.events.runs import ParamsLogged, RunUpdated, TagsDeleted, TagsSet


async def log_metric(call: Call) -> Any:
    """Log a metric's value."""
    run_id = known_run_id(call.run_id())
    point = checked_point(call)
    of_models = model_points([(call, point)])
    await active(call, run_id)
    await _log_points(call, run_id, Points.of([point]), of_models)
    return {}


async def log_param(call: Call) -> Any:
    """Log a param. The same value again is fine; another one is refused."""
    run_id = known_run_id(call.run_id())
    params = checked_params({call.text("key", required=True): call.text("value")}, "key")
    state = await active(call, run_id)
    if clashes := await _log_params(call, state, params):
        [(key, (old, new))] = clashes.items()
        raise InvalidRequest(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' for run "
            f"ID='{run_id}'. Attempted logging new value '{new}'."
        )
    return {}


async def log_batch(call: Call) -> Any:
    """Log params, then metrics and tags, once all of them are found to be right; a param that clashes keeps out the rest."""
    run_id = check_run_id(call.run_id())
    metrics, given_params, given_tags = call.mappings("metrics"), call.objects("params"), call.objects("tags")
    check_batch_limits(metrics, given_params, given_tags)
    plain = plain_points(metrics)
    points, of_models = _checked_points(call.objects("metrics")) if plain is None else (plain, ())
    params = checked_params(unique_params(given_params))
    tags = checked_tags(call.pairs("tags"))
    state = await active(call, run_id)
    if params and (clashes := await _log_params(call, state, params)):
        listed = [{"key": key, "old_value": old, "new_value": new} for key, (old, new) in clashes.items()]
        raise InvalidRequest(
            f"Changing param values is not allowed. Params were already logged='{listed}' for run ID='{run_id}'."
        )
    if points and tags:
        await asyncio.gather(_log_points(call, run_id, points, of_models), _set_tags(call, run_id, tags))
    elif points:
        await _log_points(call, run_id, points, of_models)
    elif tags:
        await _set_tags(call, run_id, tags)
    return {}


def _checked_points(metrics: list[Fields]) -> tuple[Points, tuple[ModelPoint, ...]]:
    """Return a batch's metrics, and those of them that tell of a model."""
    points = [checked_point(one, f"metrics[{place}].") for place, one in enumerate(metrics)]
    return Points.of(points), model_points(list(zip(metrics, points, strict=True)))


async def set_tag(call: Call) -> Any:
    """Set a tag of a run; the tag that holds its name renames it."""
    run_id = known_run_id(call.run_id())
    tags = checked_tags({call.text("key", required=True): call.text("value")}, "key")
    await active(call, run_id)
    await _set_tags(call, run_id, tags)
    return {}


async def delete_tag(call: Call) -> Any:
    """Delete a tag of a run, which must be there."""
    run_id = known_run_id(call.run_id())
    key = call.text("key", required=True)
    await active(call, run_id)
    await call.stores.fresh.run(run_id)
    if not await has_tag(call.stores.postgres, run_id, key):
        raise NotFound(f"No tag with name: {key} in run with id {run_id}")
    await call.stores.commands.state(TagsDeleted(run_id=run_id, keys=(key,)), actor=call.actor)
    return {}


async def _log_params(call: Call, state: RunState, params: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Log params, and return those of which another value had come first, with both.

    What is known to clash is not published. Otherwise the order of the log decides, also between two who log at once.
    """
    run_id = state.run_id
    held = await get_params(call.stores.postgres, run_id, list(params)) if state.params is None else state.params
    if clashes := _clashes(held, params):
        return clashes
    if all(held.get(key) == value for key, value in params.items()):
        return {}
    written = await call.stores.commands.state(ParamsLogged(run_id=run_id, params=params), actor=call.actor)
    after = await call.stores.recent.after(run_id, written)
    if after is not None and after.params is not None:
        return _clashes(after.params, params)
    await call.stores.fresh.of([written])
    return _clashes(await get_params(call.stores.postgres, run_id, list(params)), params)


async def _log_points(call: Call, run_id: str, points: Points, of_models: tuple[ModelPoint, ...]) -> None:
    writing = call.stores.commands.points(run_id, points, actor=call.actor)
    if of_models:
        await asyncio.gather(writing, log_model_points(call, run_id, of_models))
    else:
        await writing


def _clashes(held: dict[str, str], params: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {key: (held[key], value) for key, value in params.items() if held.get(key, value) != value}


async def _set_tags(call: Call, run_id: str, tags: dict[str, str]) -> None:
    await call.stores.commands.state(TagsSet(run_id=run_id, tags=tags), actor=call.actor)
    if name := tags.get(RUN_NAME):
        await call.stores.commands.state(RunUpdated(run_id=run_id, name=name), actor=call.actor)


ROUTES = (
    *call_routes("POST", "runs/log-metric", log_metric, Policy.LOG, "Log a metric's value"),
    *call_routes("POST", "runs/log-parameter", log_param, Policy.LOG, "Log a param"),
    *call_routes("POST", "runs/log-batch", log_batch, Policy.LOG, "Log metrics, params and tags"),
    *call_routes("POST", "runs/set-tag", set_tag, Policy.LOG, "Set a run's tag"),
    *call_routes("POST", "runs/delete-tag", delete_tag, Policy.LOG, "Delete a run's tag"),
)
