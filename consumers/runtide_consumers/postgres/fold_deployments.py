"""Folds of runtide.deployments: one plain function per event type. The topic is one order; the last fact wins."""

from runtide_consumers.postgres.fold_runs import canonical_json
from runtide_consumers.postgres.rows import Workspace
from runtide_consumers.projection import Event
from runtide_schemas.events.deployments import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentStopped,
    DeploymentSucceeded,
)


def deployment_started(work: Workspace, event: Event) -> None:
    """An attempt begins."""
    body: DeploymentStarted = event.body
    work.change(
        "deployments",
        body.deployment_id,
        endpoint=body.endpoint,
        model=body.model,
        version=body.version,
        source=body.source,
        digest=body.digest,
        target=body.target,
        generation=body.generation,
        state="starting",
        cause=event.envelope.cause,
        started_at=body.at,
        updated_at=body.at,
    )


def deployment_succeeded(work: Workspace, event: Event) -> None:
    """It has the endpoint's traffic."""
    body: DeploymentSucceeded = event.body
    work.change(
        "deployments",
        body.deployment_id,
        endpoint=body.endpoint,
        model=body.model,
        version=body.version,
        state="serving",
        url=body.url,
        instance=canonical_json(body.instance),
        reason="",
        updated_at=body.at,
    )


def deployment_ended(work: Workspace, event: Event) -> None:
    """It failed or was stopped."""
    body: DeploymentFailed | DeploymentStopped = event.body
    work.change(
        "deployments",
        body.deployment_id,
        endpoint=body.endpoint,
        model=body.model,
        version=body.version,
        state="failed" if isinstance(body, DeploymentFailed) else "stopped",
        reason=body.reason,
        updated_at=body.at,
    )


def deployment_rolled_back(work: Workspace, event: Event) -> None:
    """The endpoint went back: this attempt is over, the one before serves again."""
    body: DeploymentRolledBack = event.body
    about = {"endpoint": body.endpoint, "model": body.model, "updated_at": body.at}
    work.change(
        "deployments",
        body.deployment_id,
        version=body.from_version,
        state="rolled_back",
        reason=body.reason,
        **about,
    )
    if body.to_deployment_id:
        work.change("deployments", body.to_deployment_id, version=body.to_version, state="serving", **about)


HANDLERS = {
    DeploymentStarted: deployment_started,
    DeploymentSucceeded: deployment_succeeded,
    DeploymentFailed: deployment_ended,
    DeploymentStopped: deployment_ended,
    DeploymentRolledBack: deployment_rolled_back,
}
