"""What the log says about deployments: what is wanted (catalogue) and what is (the deployer's own facts).

``fold`` changes a ``State`` by one event and does nothing else: no clock, no I/O. The same events give the same state.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from runtide_consumers.projection import Event
from runtide_consumers.sequences import Admission, Sequence, admit
from runtide_schemas import topics
from runtide_schemas.events.catalog import (
    AliasDeleted,
    AliasMoved,
    DeploymentRemoved,
    DeploymentRequested,
    ModelVersionDeleted,
    ModelVersionRegistered,
    RegisteredModelDeleted,
    RegisteredModelRenamed,
)
from runtide_schemas.events.deployments import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentStopped,
    DeploymentSucceeded,
)

REMOVED = "removed"
_KEPT_ATTEMPTS = 50


@dataclass(frozen=True, slots=True, order=True)
class Because:
    """A fact of the catalogue as a cause: its place in the topic's one order, and its id."""

    offset: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What an endpoint is to serve, by the last DeploymentRequested."""

    endpoint: str
    model: str
    follow: str
    alias: str
    version: int
    target: str
    config: Mapping[str, str]
    generation: int
    because: Because


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version."""

    source: str
    digest: str
    because: Because


class AttemptState(Enum):
    """How far an attempt has come."""

    STARTING = "starting"
    SERVING = "serving"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


LIVE = (AttemptState.STARTING, AttemptState.SERVING)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to bring one version up at one endpoint; times in Unix milliseconds, None when it did not happen."""

    deployment_id: str
    endpoint: str
    model: str
    version: int
    source: str
    digest: str
    target: str
    generation: int
    cause: str
    state: AttemptState = AttemptState.STARTING
    served_at: int | None = None
    ended_at: int | None = None
    stop_reason: str = ""

    @property
    def live(self) -> bool:
        """Return whether it has an instance, or should have."""
        return self.state in LIVE


@dataclass(slots=True)
class State:
    """Everything the deployer knows from the log.

    Wishes, versions and aliases come from one topic and attempts from another, and neither fold looks at the other's:
    in whatever order the two topics are read, the state is the same.

    Attributes:
        wishes: what is wanted, by endpoint; an endpoint that was removed has none.
        removals: id of the fact that removed an endpoint, by endpoint.
        versions: registered versions by model and number, without deleted ones.
        aliases: version that an alias points at, by model and alias.
        attempts: attempts by endpoint and deployment id, in the order of their start.
    """

    wishes: dict[str, Wish] = field(default_factory=dict)
    removals: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, int], Version] = field(default_factory=dict)
    aliases: dict[tuple[str, str], tuple[int, Because]] = field(default_factory=dict)
    attempts: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    last_request_offset: int = -1
    sequences: dict[tuple[str, str], Sequence] = field(default_factory=dict)

    def live_attempts(self) -> list[Attempt]:
        """Return all attempts that have an instance, or should have."""
        return [attempt for attempts in self.attempts.values() for attempt in attempts.values() if attempt.live]


def fold(state: State, event: Event) -> bool:
    """Change the state by an event and return whether it said something new."""
    if not _is_new(state, event):
        return False
    handler = FOLDS.get(type(event.body))
    if handler is not None:
        handler(state, event)
    return handler is not None


def _is_new(state: State, event: Event) -> bool:
    stream = (event.envelope.writer, event.origin.topic)
    sequence, admission = admit(state.sequences.get(stream, Sequence()), event.envelope.seq)
    if admission is Admission.DUPLICATE:
        return False
    state.sequences[stream] = sequence
    if event.origin.topic == topics.CATALOG:
        offset = event.body.answer.request_offset
        if offset <= state.last_request_offset:
            return False
        state.last_request_offset = offset
    return True


def _because(event: Event) -> Because:
    return Because(event.origin.offset, event.envelope.id)


def _requested(state: State, event: Event) -> None:
    body: DeploymentRequested = event.body
    state.wishes[body.endpoint] = Wish(
        endpoint=body.endpoint,
        model=body.model,
        follow=body.follow,
        alias=body.alias,
        version=body.version,
        target=body.target,
        config=body.config,
        generation=body.generation,
        because=_because(event),
    )


def _removed(state: State, event: Event) -> None:
    body: DeploymentRemoved = event.body
    state.wishes.pop(body.endpoint, None)
    state.removals[body.endpoint] = event.envelope.id


def _registered(state: State, event: Event) -> None:
    body: ModelVersionRegistered = event.body
    state.versions[body.name, body.version] = Version(body.location or body.source, body.digest, _because(event))
    for alias in body.aliases:
        state.aliases[body.name, alias] = (body.version, _because(event))


def _version_deleted(state: State, event: Event) -> None:
    body: ModelVersionDeleted = event.body
    state.versions.pop((body.name, body.version), None)
    gone = [key for key, (version, _) in state.aliases.items() if key[0] == body.name and version == body.version]
    for key in gone:
        del state.aliases[key]


def _model_deleted(state: State, event: Event) -> None:
    body: RegisteredModelDeleted = event.body
    state.versions = {key: version for key, version in state.versions.items() if key[0] != body.name}
    state.aliases = {key: target for key, target in state.aliases.items() if key[0] != body.name}


def _model_renamed(state: State, event: Event) -> None:
    body: RegisteredModelRenamed = event.body

    def renamed(model: str) -> str:
        return body.name if model == body.previous_name else model

    state.versions = {(renamed(model), number): version for (model, number), version in state.versions.items()}
    state.aliases = {(renamed(model), alias): target for (model, alias), target in state.aliases.items()}
    state.wishes = {name: replace(wish, model=renamed(wish.model)) for name, wish in state.wishes.items()}


def _alias_moved(state: State, event: Event) -> None:
    body: AliasMoved = event.body
    state.aliases[body.name, body.alias] = (body.version, _because(event))


def _alias_deleted(state: State, event: Event) -> None:
    state.aliases.pop((event.body.name, event.body.alias), None)


def _started(state: State, event: Event) -> None:
    body: DeploymentStarted = event.body
    attempts = state.attempts.setdefault(body.endpoint, {})
    attempts[body.deployment_id] = Attempt(
        deployment_id=body.deployment_id,
        endpoint=body.endpoint,
        model=body.model,
        version=body.version,
        source=body.source,
        digest=body.digest,
        target=body.target,
        generation=body.generation,
        cause=event.envelope.cause,
    )
    for name in [name for name, attempt in attempts.items() if not attempt.live][:-_KEPT_ATTEMPTS]:
        del attempts[name]


def _succeeded(state: State, event: Event) -> None:
    _change(state, event, state=AttemptState.SERVING, served_at=event.body.at)


def _failed(state: State, event: Event) -> None:
    _change(state, event, state=AttemptState.FAILED, ended_at=event.body.at)


def _rolled_back(state: State, event: Event) -> None:
    _change(state, event, state=AttemptState.ROLLED_BACK)


def _stopped(state: State, event: Event) -> None:
    _change(state, event, state=AttemptState.STOPPED, ended_at=event.body.at, stop_reason=event.body.reason)


def _change(state: State, event: Event, /, **changes: Any) -> None:
    attempts = state.attempts.get(event.body.endpoint, {})
    attempt = attempts.get(event.body.deployment_id)
    if attempt is not None:
        attempts[attempt.deployment_id] = replace(attempt, **changes)


FOLDS: dict[type[Any], Callable[[State, Event], None]] = {
    DeploymentRequested: _requested,
    DeploymentRemoved: _removed,
    ModelVersionRegistered: _registered,
    ModelVersionDeleted: _version_deleted,
    RegisteredModelDeleted: _model_deleted,
    RegisteredModelRenamed: _model_renamed,
    AliasMoved: _alias_moved,
    AliasDeleted: _alias_deleted,
    DeploymentStarted: _started,
    DeploymentSucceeded: _succeeded,
    DeploymentFailed: _failed,
    DeploymentRolledBack: _rolled_back,
    DeploymentStopped: _stopped,
}
"""The events that say something about deployments; all others are passed over."""
