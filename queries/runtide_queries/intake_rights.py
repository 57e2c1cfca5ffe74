"""Which events a caller may bring: what a training job states, or also what takes away, promotes and deploys.

The log token lies on every machine that trains. Whoever finds it can add to the log and describe what is there; it deletes
nothing, and changes what is served only where an endpoint follows the latest version, which is to say whatever is trained.
"""

from typing import Any

from runtide_schemas.errors import InvalidRequest

A_JOB_STATES = frozenset({
    "RunStarted", "RunUpdated", "ParamsLogged", "TagsSet", "TagsDeleted", "InputsLogged", "ArtifactLogged", "ModelLogged",
    "LoggedModelCreated", "LoggedModelFinalized", "LoggedModelTagsSet", "LoggedModelTagsDeleted", "LoggedModelParamsLogged",
    "ModelMetricsLogged", "RunModelsLinked",
    "WriterOpened", "WriterClosed", "WriterAlive", "RunEnded", "MetricsLogged",
    "CreateExperiment", "SetExperimentTags",
    "CreateRegisteredModel", "UpdateRegisteredModel", "SetRegisteredModelTags",
    "RegisterModelVersion", "UpdateModelVersion", "SetModelVersionTags",
})  # fmt: skip
"""Types of events that the log token is enough for."""
FULL_TOKEN_ONLY = frozenset({
    "RunDeleted", "RunRestored", "LoggedModelDeleted",
    "RenameExperiment", "DeleteExperimentTags", "DeleteExperiment", "RestoreExperiment",
    "RenameRegisteredModel", "DeleteRegisteredModelTags", "DeleteRegisteredModel",
    "DeleteModelVersionTags", "DeleteModelVersion",
    "SetAlias", "DeleteAlias", "TransitionStage",
    "RequestDeployment", "RemoveDeployment",
    "CreateWebhook", "UpdateWebhook", "DeleteWebhook",
})  # fmt: skip
"""Types of events that want the full token."""


def may_bring(event_type: str, full: bool) -> bool:
    """Say whether a caller may bring events of a type; ``full``: it showed the full token, or none is wanted.

    A type that is in neither table comes from services alone: nobody may bring it.
    """
    return event_type in A_JOB_STATES or (full and event_type in FULL_TOKEN_ONLY)


def check_rights(body: Any, full: bool) -> None:
    """Refuse an event that a caller may not bring; see ``may_bring``.

    Raises:
        InvalidRequest: PERMISSION_DENIED. A version that is registered together with aliases moves them, and counts as that.
    """
    name, promotes = type(body).__name__, bool(getattr(body, "aliases", ()))
    if not may_bring(name, full) or (promotes and not may_bring("SetAlias", full)):
        what = f"{name} with aliases" if promotes else name
        why = (
            "is stated by Runtide's own services alone: no token opens it"
            if full
            else "is more than a training job states: the log token does not open it, show the gateway's full token"
        )
        raise InvalidRequest(f"{what} {why}", "PERMISSION_DENIED")
