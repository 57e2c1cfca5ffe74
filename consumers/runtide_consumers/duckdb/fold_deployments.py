"""Folds of runtide.deployments: one row per attempt to bring a version up."""

import json
from typing import Any

from runtide_consumers.duckdb.fold_runs import Fold
from runtide_consumers.duckdb.rows import EntityRows, Row
from runtide_consumers.projection import Event
from runtide_schemas.events.deployments import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentStopped,
    DeploymentSucceeded,
)


def _row(rows: EntityRows, deployment_id: str, body: Any, version: int) -> Row:
    """Return the deployment's row with what every fact says of it; the last one stands."""
    known = rows["deployments"].get(deployment_id) or _unknown(deployment_id)
    return known | {"endpoint": body.endpoint, "model": body.model, "version": version, "updated_at": body.at}


def _unknown(deployment_id: str) -> Row:
    return {
        "deployment_id": deployment_id,
        "source": "",
        "digest": "",
        "target": "",
        "generation": 0,
        "url": "",
        "instance": "{}",
        "reason": "",
        "cause": "",
        "started_at": 0,
    }


def _put(rows: EntityRows, body: Any, **said: Any) -> None:
    rows["deployments"].put(_row(rows, body.deployment_id, body, body.version) | said)


def _started(rows: EntityRows, event: Event) -> None:
    body: DeploymentStarted = event.body
    _put(
        rows,
        body,
        source=body.source,
        digest=body.digest,
        target=body.target,
        generation=body.generation,
        state="starting",
        cause=event.envelope.cause,
        started_at=body.at,
    )


def _succeeded(rows: EntityRows, event: Event) -> None:
    body: DeploymentSucceeded = event.body
    instance = json.dumps(dict(body.instance), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    _put(rows, body, state="serving", url=body.url, instance=instance, reason="")


def _failed(rows: EntityRows, event: Event) -> None:
    body: DeploymentFailed = event.body
    _put(rows, body, state="failed", reason=body.reason)


def _rolled_back(rows: EntityRows, event: Event) -> None:
    body: DeploymentRolledBack = event.body
    over = _row(rows, body.deployment_id, body, body.from_version)
    rows["deployments"].put(over | {"state": "rolled_back", "reason": body.reason})
    if body.to_deployment_id:
        again = _row(rows, body.to_deployment_id, body, body.to_version)
        rows["deployments"].put(again | {"state": "serving"})


def _stopped(rows: EntityRows, event: Event) -> None:
    body: DeploymentStopped = event.body
    _put(rows, body, state="stopped", reason=body.reason)


FOLDS: dict[type[Any], Fold] = {
    DeploymentStarted: _started,
    DeploymentSucceeded: _succeeded,
    DeploymentFailed: _failed,
    DeploymentRolledBack: _rolled_back,
    DeploymentStopped: _stopped,
}
