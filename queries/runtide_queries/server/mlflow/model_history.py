"""Models as clients of MLflow 2 log them: a tag of the run that lists what each of them is."""

import json
from typing import Any

from runtide_queries.run_states import get_tag
from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.mlflow.runs import active
from runtide_queries.server.mlflow.validation import check_run_id
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import TagsSet
from runtide_schemas.limits import MAX_TAG_VALUE_LENGTH

HISTORY = "mlflow.log-model.history"
_NEEDED = ("artifact_path", "flavors", "utc_time_created", "run_id")
_KEPT = ("run_id", "artifact_path", "utc_time_created", "model_uuid")


async def log_model(call: Call) -> Any:
    """Note a model in its run's list; the oldest leave it when it grows too long for a tag."""
    run_id = check_run_id(call.run_id())
    model = _model(call.text("model_json", required=True))
    await active(call, run_id)
    await call.stores.fresh.run(run_id)
    before = await get_tag(call.stores.postgres, run_id, HISTORY)
    models = [*_listed(before), _shown(model)]
    while len(value := json.dumps(models)) > MAX_TAG_VALUE_LENGTH and len(models) > 1:
        models.pop(0)
    if len(value) > MAX_TAG_VALUE_LENGTH:
        raise InvalidRequest(f"the model's description has {len(value)} characters; at most {MAX_TAG_VALUE_LENGTH} fit")
    await call.stores.commands.state(TagsSet(run_id=run_id, tags={HISTORY: value}), actor=call.actor)
    return {}


def _model(text: str) -> dict[str, Any]:
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"Malformed model info. \n {text[:500]} \n is not a valid JSON.") from error
    absent = sorted(set(_NEEDED) - set(model if isinstance(model, dict) else ()))
    if absent:
        raise InvalidRequest(f"Model json is missing mandatory fields: {absent}")
    if not isinstance(model["flavors"], dict):
        raise InvalidRequest("Model json has flavors that are no object")
    return dict(model)


def _shown(model: dict[str, Any]) -> dict[str, Any]:
    flavors = {
        name: {key: value for key, value in flavor.items() if key != "config"} if isinstance(flavor, dict) else flavor
        for name, flavor in model["flavors"].items()
    }
    return {**{name: model[name] for name in _KEPT if name in model}, "flavors": flavors}


def _listed(value: str | None) -> list[Any]:
    """Return what a run's list has; a tag that somebody else wrote may be no list."""
    try:
        found = json.loads(value or "[]")
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


ROUTES = (*call_routes("POST", "runs/log-model", log_model, Policy.LOG, "Note a model that a run logged"),)
