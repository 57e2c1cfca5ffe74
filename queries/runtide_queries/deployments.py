"""Endpoints: what is wanted of each, and the deployments that came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runtide_queries.postgres import Postgres
from runtide_queries.statements import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One attempt to serve a version; ``state`` is starting, serving, failed, rolled_back or stopped."""

    deployment_id: str
    endpoint: str
    model: str | None
    version: int | None
    source: str | None
    digest: str | None
    target: str | None
    generation: int | None
    state: str
    url: str | None
    instance: Mapping[str, Any]
    reason: str | None
    cause: str | None
    started_at: int | None
    updated_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is wanted at an endpoint, beside its deployments, the newest first."""

    endpoint: str
    model: str | None
    follow: str | None
    alias: str | None
    version: int | None
    target: str | None
    config: Mapping[str, Any]
    generation: int | None
    requested_at: int | None
    removed: bool
    deployments: tuple[Deployment, ...]

    @property
    def serving(self) -> Deployment | None:
        """The deployment that answers now, or None."""
        return next((deployment for deployment in self.deployments if deployment.state == "serving"), None)


async def list_endpoints(postgres: Postgres) -> tuple[Endpoint, ...]:
    """Return the endpoints that are wanted, by name, with all their deployments."""
    statements = load("deployments")
    async with postgres.snapshot() as snapshot:
        rows = await snapshot.rows(statements["list_endpoints"])
        names = [row["endpoint"] for row in rows]
        found = [_deployment(row) for row in await snapshot.rows(statements["list_deployments"], endpoints=names)]
    return tuple(_endpoint(row, tuple(one for one in found if one.endpoint == row["endpoint"])) for row in rows)


def _deployment(row: Any) -> Deployment:
    return Deployment(**{**row, "instance": orjson.loads(row["instance"] or "{}")})


def _endpoint(row: Any, deployments: tuple[Deployment, ...]) -> Endpoint:
    return Endpoint(**{**row, "config": orjson.loads(row["config"] or "{}")}, deployments=deployments)
