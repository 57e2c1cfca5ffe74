"""An event in a few words, as a person reads it in a list."""

from collections.abc import Callable, Mapping
from typing import Any

from runtide_schemas.envelope import format_time

_MOST = 200
_UNSAID = ("answer", "run_id", "at")
Body = Mapping[str, Any]


def summary(event_type: str, body: Body) -> str:
    """Return what an event says: by the table, or else its fields that say something."""
    told = _TELL[event_type](body) if event_type in _TELL else _pairs(body)
    return told if len(told) <= _MOST else told[: _MOST - 1] + "…"


def _pairs(body: Body) -> str:
    said = {key: value for key, value in body.items() if key not in _UNSAID and value not in ("", None, {}, [])}
    return ", ".join(f"{key}={_brief(value)}" for key, value in said.items())


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_brief(item)}" for key, item in value.items()) + "}"
    return ", ".join(map(_brief, value)) if isinstance(value, list) else str(value)


def _started(body: Body) -> str:
    return (
        f"{body['name'] or 'unnamed'} by {body['user'] or 'nobody named'} from {body['source_name'] or 'nowhere named'}"
    )


def _registered(body: Body) -> str:
    aliases = "".join(f" @{alias}" for alias in body["aliases"])
    return f"version {body['version']}{aliases} from {body['source']}"


def _alias_moved(body: Body) -> str:
    before = body["previous_version"]
    return f"@{body['alias']} -> version {body['version']}" + (f" (was {before})" if before is not None else "")


def _stage(body: Body) -> str:
    archived = ", ".join(map(str, body["archived_versions"]))
    return f"version {body['version']}: {body['previous_stage']} -> {body['stage']}" + (
        f"; archived: {archived}" if archived else ""
    )


def _wanted(body: Body) -> str:
    what = {"alias": f"@{body['alias']}", "version": f"version {body['version']}"}.get(body["follow"], body["follow"])
    return f"serve {body['model']} {what} on {body['target']} (wish {body['generation']})"


def _rolled_back(body: Body) -> str:
    return f"version {body['from_version']} -> {body['to_version']}: {body['reason']}"


def _points(body: Body) -> str:
    points = body["model_points"]
    models = sorted({point["model_id"] for point in points})
    return f"{len(points):,} of {_brief(sorted({point['key'] for point in points}))} for {_brief(models)}"


def _links(body: Body) -> str:
    return ", ".join(f"{link['role']} {link['model_id']}" for link in body["links"])


_TELL: Mapping[str, Callable[[Body], str]] = {
    "RunStarted": _started,
    "RunEnded": lambda body: " ".join(filter(None, (body["status"], body["reason"]))),
    "RunLost": lambda body: f"silent since {format_time(body['silent_since'])}",
    "RunRecovered": lambda body: f"writer {body['writer_id'][:8]} is heard again",
    "RunDeleted": lambda _: "deleted",
    "RunRestored": lambda _: "restored",
    "ParamsLogged": lambda body: _brief(body["params"]),
    "TagsSet": lambda body: _brief(body["tags"]),
    "TagsDeleted": lambda body: "without " + _brief(body["keys"]),
    "ArtifactLogged": lambda body: f"{body['path']} ({body['size']:,} bytes)",
    "ModelLogged": lambda body: f"{body['name']} at {body['artifact_path']} ({body['model_id']})",
    "LoggedModelCreated": lambda body: f"{body['name']} ({body['model_id']})",
    "LoggedModelFinalized": lambda body: " ".join(
        filter(None, (body["model_id"], body["status"], body["status_message"]))
    ),
    "LoggedModelTagsSet": lambda body: f"{body['model_id']}: {_brief(body['tags'])}",
    "LoggedModelTagsDeleted": lambda body: f"{body['model_id']}: without {_brief(body['keys'])}",
    "LoggedModelParamsLogged": lambda body: f"{body['model_id']}: {_brief(body['params'])}",
    "LoggedModelDeleted": lambda body: f"{body['model_id']} deleted",
    "ModelMetricsLogged": _points,
    "RunModelsLinked": _links,
    "ExperimentCreated": lambda body: body["name"],
    "ExperimentRenamed": lambda body: f"-> {body['name']}",
    "ExperimentDeleted": lambda _: "deleted",
    "ExperimentRestored": lambda _: "restored",
    "RegisteredModelRenamed": lambda body: f"{body['previous_name']} -> {body['name']}",
    "RegisteredModelDeleted": lambda _: "deleted, with its versions and aliases",
    "ModelVersionRegistered": _registered,
    "ModelVersionDeleted": lambda body: f"version {body['version']} deleted, and aliases that pointed at it",
    "ModelVersionUpdated": lambda body: f"version {body['version']}: {body['description']}",
    "ModelVersionTagsSet": lambda body: f"version {body['version']}: {_brief(body['tags'])}",
    "ModelVersionTagsDeleted": lambda body: f"version {body['version']}: without {_brief(body['keys'])}",
    "AliasMoved": _alias_moved,
    "AliasDeleted": lambda body: f"@{body['alias']} deleted",
    "StageTransitioned": _stage,
    "DeploymentRequested": _wanted,
    "DeploymentRemoved": lambda _: "to be removed",
    "DeploymentStarted": lambda body: f"version {body['version']} of {body['model']} starting on {body['target']}",
    "DeploymentSucceeded": lambda body: f"version {body['version']} of {body['model']} serving at {body['url']}",
    "DeploymentFailed": lambda body: f"version {body['version']} failed: {body['reason']}",
    "DeploymentStopped": lambda body: f"version {body['version']} stopped: {body['reason']}",
    "DeploymentRolledBack": _rolled_back,
}
