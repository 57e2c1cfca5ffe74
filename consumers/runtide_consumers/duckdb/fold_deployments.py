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


def _row(rows: EntityRows, event: Event) -> Row:
    body = event.body
    known = rows["deployments"].get(body.deployment_id)
    return (known or _unknown(event)) | {"updated_at": body.at}


def _unknown(event: Event) -> Row:
    body = event.body
    return {
        "deployment_id": body.deployment_id,
        "endpoint": body.endpoint,
        "model": body.model,
        "version": getattr(body, "version", 0),
        "source": "",
        "digest": "",
        "target": "",
        "generation": 0,
        "state": "starting",
        "url": "",
        "instance": "{}",
        "reason": "",
        "cause": "",
        "started_at": 0,
        "updated_at": body.at,
    }


def _started(rows: EntityRows, event: Event) -> None:
    body: DeploymentStarted = event.body
    rows["deployments"].put(
        _row(rows, event)
        | {
            "source": body.source,
            "digest": body.digest,
            "target": body.target,
            "generation": body.generation,
            "state": "starting",
            "cause": event.envelope.cause,
            "started_at": body.at,
        }
    )


def _succeeded(rows: EntityRows, event: Event) -> None:
    body: DeploymentSucceeded = event.body
    instance = json.dumps(dict(body.instance), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    rows["deployments"].put(
        _row(rows, event) | {"state": "serving", "url": body.url, "instance": instance, "reason": ""}
    )


def _failed(rows: EntityRows, event: Event) -> None:
    body: DeploymentFailed = event.body
    rows["deployments"].put(_row(rows, event) | {"state": "failed", "reason": body.reason})


def _rolled_back(rows: EntityRows, event: Event) -> None:
    body: DeploymentRolledBack = event.body
    row = _row(rows, event) | {"version": body.from_version, "state": "rolled_back", "reason": body.reason}
    rows["deployments"].put(row)
    rows["deployments"].change(body.to_deployment_id, state="serving", version=body.to_version, updated_at=body.at)


def _stopped(rows: EntityRows, event: Event) -> None:
    body: DeploymentStopped = event.body
    rows["deployments"].put(_row(rows, event) | {"state": "stopped", "reason": body.reason})


FOLDS: dict[type[Any], Fold] = {
    DeploymentStarted: _started,
    DeploymentSucceeded: _succeeded,
    DeploymentFailed: _failed,
    DeploymentRolledBack: _rolled_back,
    DeploymentStopped: _stopped,
}
