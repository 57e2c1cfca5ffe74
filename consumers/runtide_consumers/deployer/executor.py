"""Doing the steps of a plan through the targets; every step that changes something is a fact in the log.

What is only in memory here (which instances this process launched, since when one is silent) may be lost at any
moment: the next process finds the instances again by their deployment ids.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runtide.direct import DirectPublisher
from runtide_consumers.deployer.plan import (
    Begin,
    Fail,
    Health,
    Launch,
    Observation,
    RollBack,
    Shift,
    Step,
    Stop,
)
from runtide_consumers.deployer.state import Attempt, AttemptState, State, fold
from runtide_consumers.deployer.target import CannotDeploy, DeploymentSpec, DeploymentTarget, Instance
from runtide_consumers.projection import Event, Origin
from runtide_schemas.envelope import Envelope
from runtide_schemas.errors import TransientError
from runtide_schemas.events.deployments import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentStopped,
    DeploymentSucceeded,
)
from runtide_schemas.identity import now_ms, uuid7
from runtide_schemas.routing import subject_of

log = logging.getLogger(__name__)


class Executor:
    """Observes attempts and performs steps. Facts are folded into the state as soon as the broker has them."""

    def __init__(self, state: State, targets: Mapping[str, DeploymentTarget], publisher: DirectPublisher) -> None:
        """``targets`` by the name that wishes use."""
        self._state = state
        self._targets = targets
        self._publisher = publisher
        self._launched: set[str] = set()
        self._silent_since: dict[str, float] = {}
        self._instances: dict[str, Instance] = {}

    async def observe(self, attempts: list[Attempt]) -> dict[str, Observation]:
        """Return what is seen of these attempts; those whose target is away or unknown are left out."""
        seen = await asyncio.gather(*(self._observe(attempt) for attempt in attempts))
        return {
            attempt.deployment_id: sight for attempt, sight in zip(attempts, seen, strict=True) if sight is not None
        }

    async def perform(self, step: Step) -> None:
        """Do one step.

        Raises:
            TransientError: the target or the broker is away; the step will be planned again.
        """
        log.info("%s", _in_words(step))
        await _PERFORM[type(step)](self, step)

    async def stop_all(self, reason: str) -> None:
        """Stop every instance, each with its fact; one that cannot be stopped does not keep the others.

        Raises:
            TransientError: some could not be stopped, or not all facts could be published.
        """
        steps = [Stop(attempt, reason) for attempt in self._state.live_attempts()]
        ends = await asyncio.gather(*map(self.perform, steps), return_exceptions=True)
        if failures := [f"{_in_words(step)}: {end}" for step, end in zip(steps, ends, strict=True) if end is not None]:
            raise TransientError("; ".join(failures))

    async def _observe(self, attempt: Attempt) -> Observation | None:
        name, target = attempt.deployment_id, self._targets.get(attempt.target)
        launched = name in self._launched
        if target is None:
            starting = attempt.state is AttemptState.STARTING
            return Observation(Health.ABSENT) if starting else None
        try:
            instance = await target.find(name)
            healthy = instance is not None and await target.healthy(instance)
        except TransientError as error:
            log.warning("cannot look at %s: %s", name, error)
            return None
        if instance is None:
            return Observation(Health.ABSENT, launched)
        self._instances[name] = instance
        now = time.monotonic()
        since = self._silent_since.setdefault(name, now)
        if healthy:
            self._silent_since[name] = now
            return Observation(Health.HEALTHY, launched)
        return Observation(Health.SILENT, launched, int(1000 * (now - since)))

    async def begin(self, step: Begin) -> None:
        goal = step.goal
        await self._publish(
            DeploymentStarted(
                deployment_id=uuid7(),
                endpoint=goal.endpoint,
                model=goal.model,
                version=goal.version,
                source=goal.source,
                digest=goal.digest,
                target=goal.target,
                generation=goal.generation,
                at=now_ms(),
            ),
            goal.cause,
        )

    async def launch(self, step: Launch) -> None:
        attempt = step.attempt
        spec = DeploymentSpec(
            deployment_id=attempt.deployment_id,
            endpoint=attempt.endpoint,
            model=attempt.model,
            version=attempt.version,
            source=attempt.source,
            digest=attempt.digest,
            config=step.config,
        )
        try:
            await self._target(attempt).start(spec)
        except TransientError:
            raise
        except Exception as error:
            log.warning("%s cannot be started", attempt.deployment_id, exc_info=not isinstance(error, CannotDeploy))
            await self.fail(Fail(attempt, str(error) or type(error).__name__))
            return
        self._launched.add(attempt.deployment_id)
        self._silent_since[attempt.deployment_id] = time.monotonic()

    async def shift(self, step: Shift) -> None:
        attempt, instance = step.attempt, self._instances[step.attempt.deployment_id]
        await self._target(attempt).route(attempt.endpoint, instance)
        await self._publish(
            DeploymentSucceeded(
                **_about(attempt), url=instance.url, replaced=step.replaced, instance=instance.details, at=now_ms()
            ),
            attempt.cause,
        )

    async def fail(self, step: Fail) -> None:
        attempt, words = step.attempt, ""
        if (target := self._targets.get(attempt.target)) is not None:
            words = await target.last_words(attempt.deployment_id)
        await self._stop_instance(attempt)
        reason = f"{step.reason}\n{words}".strip()
        await self._publish(DeploymentFailed(**_about(attempt), reason=reason, at=now_ms()), attempt.cause)

    async def stop(self, step: Stop) -> None:
        attempt = step.attempt
        await self._stop_instance(attempt)
        stopped = DeploymentStopped(**_about(attempt), reason=step.reason, at=now_ms())
        await self._publish(stopped, step.cause or attempt.cause)

    async def roll_back(self, step: RollBack) -> None:
        failed, to = step.failed, step.to
        fact = DeploymentRolledBack(
            deployment_id=failed.deployment_id,
            endpoint=failed.endpoint,
            model=failed.model,
            from_version=failed.version,
            to_version=to.version,
            to_deployment_id=to.deployment_id,
            reason=step.reason,
            at=now_ms(),
        )
        await self._publish(fact, failed.cause)

    async def _stop_instance(self, attempt: Attempt) -> None:
        name, target = attempt.deployment_id, self._targets.get(attempt.target)
        instance = await target.find(name) if target else None
        if target and instance:
            await target.stop(instance)
        for known in (self._instances, self._silent_since):
            known.pop(name, None)
        self._launched.discard(name)

    def _target(self, attempt: Attempt) -> DeploymentTarget:
        target = self._targets.get(attempt.target)
        if target is None:
            raise CannotDeploy(
                f"no deployment target is named {attempt.target!r}; there are: {', '.join(sorted(self._targets))}"
            )
        return target

    async def _publish(self, body: Any, cause: str) -> None:
        """Publish a fact and fold it at once, so that the next plan knows it; its copy from the log is a duplicate."""
        at = now_ms()
        published = await self._publisher.publish(body, cause=cause, time=at)
        envelope = Envelope(
            id=published.id,
            type=type(body).__name__,
            subject=subject_of(body),
            writer=self._publisher.writer,
            seq=published.seq,
            time=at,
            source="",
            cause=cause,
        )
        fold(self._state, Event(Origin(published.topic, published.partition, published.offset, at), envelope, body))


def _about(attempt: Attempt) -> dict[str, Any]:
    return {
        "deployment_id": attempt.deployment_id,
        "endpoint": attempt.endpoint,
        "model": attempt.model,
        "version": attempt.version,
    }


def _in_words(step: Step) -> str:
    if isinstance(step, Begin):
        return f"begin: endpoint {step.goal.endpoint} to serve {step.goal.model} version {step.goal.version}"
    if isinstance(step, RollBack):
        return f"roll back: endpoint {step.to.endpoint} from {step.failed.deployment_id} to {step.to.deployment_id}"
    attempt, what = step.attempt, type(step).__name__.lower()
    why = f" ({step.reason})" if isinstance(step, Stop | Fail) else ""
    return f"{what}: {attempt.endpoint} {attempt.model} version {attempt.version} as {attempt.deployment_id}{why}"


_PERFORM: dict[type[Any], Callable[[Executor, Any], Awaitable[None]]] = {
    Begin: Executor.begin,
    Launch: Executor.launch,
    Shift: Executor.shift,
    Fail: Executor.fail,
    Stop: Executor.stop,
    RollBack: Executor.roll_back,
}
