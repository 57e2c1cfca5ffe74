"""Decisions about what endpoints are to serve. Whether they do is for the deployer to say."""

from typing import Any

from runtide_consumers.registrar.state import Catalogue, Decision
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.catalog import Answer, DeploymentRemoved, DeploymentRequested
from runtide_schemas.events.requests import RemoveDeployment, RequestDeployment
from runtide_schemas.limits import check_alias, check_endpoint, check_model_name, check_text

_MAX_TARGET_LENGTH = 250
_MAX_CONFIG_VALUE_LENGTH = 10_000
_FOLLOW = ("latest", "alias", "version")


def request_deployment(state: Catalogue, request: RequestDeployment, answer: Answer, at: int) -> Any:
    """A pinned version must exist. A wish to follow is a standing one: model and alias may come later."""
    endpoint = check_endpoint(request.endpoint)
    if request.follow not in _FOLLOW:
        raise InvalidRequest(f"follow must be one of {', '.join(_FOLLOW)}, got {request.follow[:80]!r}")
    check_model_name(request.model)
    if request.follow == "version":
        state.model(request.model)
        state.version(request.model, request.version)
    if not request.target.strip():
        raise InvalidRequest("target is empty; name a deployment target, e.g. local")
    before = state.endpoints.get(endpoint)
    return DeploymentRequested(
        answer=answer,
        endpoint=endpoint,
        model=request.model,
        follow=request.follow,
        alias=check_alias(request.alias) if request.follow == "alias" else "",
        version=request.version if request.follow == "version" else 0,
        target=check_text(request.target, "Target", _MAX_TARGET_LENGTH),
        config=_check_config(request.config),
        generation=1 if before is None else before.generation + 1,
        at=at,
    )


def remove_deployment(state: Catalogue, request: RemoveDeployment, answer: Answer, at: int) -> Any:
    """Only one that is wanted."""
    endpoint = state.endpoints.get(request.endpoint)
    if endpoint is None or endpoint.removed:
        raise NotFound(f"Endpoint {request.endpoint[:80]} not found")
    return DeploymentRemoved(answer=answer, endpoint=request.endpoint, at=at)


def _check_config(config: Any) -> dict[str, str]:
    return {
        check_text(key, "Name of a setting", _MAX_TARGET_LENGTH): check_text(
            value, f"Setting {key!r}", _MAX_CONFIG_VALUE_LENGTH
        )
        for key, value in config.items()
    }


DECISIONS: dict[type, Decision] = {
    RequestDeployment: request_deployment,
    RemoveDeployment: remove_deployment,
}
