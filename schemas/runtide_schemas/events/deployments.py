"""Facts about deployments, published by the deployer to runtide.deployments.

What each field means stands in the Avro file of the same name under ``avro/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStarted:
    """The deployer began to bring a version up."""

    deployment_id: str
    endpoint: str
    model: str
    version: int
    source: str
    digest: str = ""
    target: str
    generation: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSucceeded:
    """The version answers health checks and receives the endpoint's traffic."""

    deployment_id: str
    endpoint: str
    model: str
    version: int
    url: str
    replaced: str = ""
    instance: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFailed:
    """The version did not come up, or died for good."""

    deployment_id: str
    endpoint: str
    model: str
    version: int
    reason: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRolledBack:
    """The endpoint went back to the deployment before."""

    deployment_id: str
    endpoint: str
    model: str
    from_version: int
    to_version: int
    to_deployment_id: str
    reason: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStopped:
    """An instance was stopped."""

    deployment_id: str
    endpoint: str
    model: str
    version: int
    reason: str
    at: int
