"""What a place to deploy to has to do. Targets are found by the entry-point group ``runtide.targets``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runtide_schemas.errors import RuntideError

ENTRY_POINTS = "runtide.targets"


class CannotDeploy(RuntideError):
    """The target can never bring this version up as it is asked to; the message goes into DeploymentFailed."""


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """One attempt to bring one model version up at one endpoint.

    Attributes:
        deployment_id: names the attempt; the target must be able to find the instance by it again.
        endpoint: name of the endpoint.
        model: registered model.
        version: its version.
        source: URI of the model directory.
        digest: digest that its files must have; empty when unknown.
        config: settings of the target, from the deployment's request.
    """

    deployment_id: str
    endpoint: str
    model: str
    version: int
    source: str
    digest: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instance:
    """Something that runs.

    Attributes:
        deployment_id: attempt that it belongs to.
        url: where it answers; empty while it is not known yet.
        details: what finds it again, e.g. pid and start time; goes into DeploymentSucceeded.
    """

    deployment_id: str
    url: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class DeploymentTarget(Protocol):
    """Starts, checks, finds and stops instances. Every call may be repeated after a crash of the deployer.

    Any method may raise TransientError (try again later); only ``start`` may raise CannotDeploy.
    """

    async def start(self, spec: DeploymentSpec) -> Instance:
        """Start the instance and return without waiting until it answers.

        Starting an attempt whose instance runs already returns that instance.

        Raises:
            CannotDeploy: it can never come up.
        """

    async def healthy(self, instance: Instance) -> bool:
        """Return whether it answers its health check now."""

    async def stop(self, instance: Instance) -> None:
        """Stop it and return once it is gone; stopping what is gone already is no error."""

    async def find(self, deployment_id: str) -> Instance | None:
        """Return the running instance of an attempt, or None when there is none (any more)."""

    async def route(self, endpoint: str, instance: Instance) -> None:
        """Send the endpoint's traffic to the instance, where the target has a say in that."""

    async def last_words(self, deployment_id: str) -> str:
        """Return the end of what the attempt's instance logged; empty when nothing is known."""


TargetFactory = Callable[[Path, Path], DeploymentTarget]
"""Makes a target from a folder for its state and a folder for cached artifacts."""
