"""What to do next: a pure function from what the log says and what is observed to at most one step per endpoint.

The goal of an endpoint is the version its wish names now. When that version has been given up (it never came up, or
died too often), the endpoint goes back to what served before. A new wish or a moved alias gives it another chance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from runtide_consumers.deployer.state import REMOVED, Attempt, AttemptState, State, Version, Wish

_ENDED_BADLY = (AttemptState.FAILED, AttemptState.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try; times in milliseconds.

    Attributes:
        start_ms: an instance must answer its health check so long after it was launched.
        silence_ms: a serving instance may leave health checks unanswered for so long.
        restarts: how often an instance that has served is started again after its death, before it is given up.
        first_pause_ms, longest_pause_ms: pause before a restart, doubled each time.
        stable_ms: an instance that served so long before it died starts the count anew.
    """

    start_ms: int = 120_000
    silence_ms: int = 30_000
    restarts: int = 5
    first_pause_ms: int = 1_000
    longest_pause_ms: int = 30_000
    stable_ms: int = 60_000


class Health(Enum):
    """What was found of an attempt's instance."""

    ABSENT = "absent"
    SILENT = "silent"
    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one attempt.

    Attributes:
        health: what was found of its instance.
        launched: this deployer process has launched it.
        silent_ms: for how long it has not answered, since it was launched, found or last answered.
    """

    health: Health
    launched: bool = False
    silent_ms: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """What an endpoint should serve, and the id of the catalogue's fact that made it so."""

    endpoint: str
    model: str
    version: int
    source: str
    digest: str
    target: str
    generation: int
    cause: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Say that a new attempt begins."""

    goal: Goal


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the attempt's instance."""

    attempt: Attempt
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shift:
    """Give the attempt the endpoint's traffic."""

    attempt: Attempt
    replaced: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Give the attempt up; clear away what is left of its instance."""

    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the attempt's instance."""

    attempt: Attempt
    reason: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class RollBack:
    """Say that the endpoint has gone back from a failed attempt to another."""

    failed: Attempt
    to: Attempt
    reason: str


Step = Begin | Launch | Shift | Fail | Stop | RollBack
Observations = Mapping[str, Observation]


def plan(state: State, observed: Observations, now_ms: int, patience: Patience | None = None) -> list[Step]:
    """Return the next step of every endpoint that has one.

    Args:
        state: what the log says.
        observed: by deployment id, what was seen of every live attempt; those without are left alone.
        now_ms: Unix time in milliseconds, to pause before restarts.
        patience: how long to wait and how often to try.
    """
    endpoints = sorted(state.wishes.keys() | state.attempts.keys())
    steps = (_next_step(state, endpoint, observed, now_ms, patience or Patience()) for endpoint in endpoints)
    return [step for step in steps if step is not None]


def goal_of(state: State, wish: Wish) -> Goal | None:
    """Return what a wish means now, or None while there is no such version."""
    number, because = wish.version, wish.because
    if wish.follow == "latest":
        number = max((version for model, version in state.versions if model == wish.model), default=0)
    elif wish.follow == "alias":
        number, because = state.aliases.get((wish.model, wish.alias), (0, wish.because))
    version: Version | None = state.versions.get((wish.model, number))
    if version is None:
        return None
    return Goal(
        endpoint=wish.endpoint,
        model=wish.model,
        version=number,
        source=version.source,
        digest=version.digest,
        target=wish.target,
        generation=wish.generation,
        cause=max(wish.because, because, version.because).event_id,
    )


def _next_step(state: State, endpoint: str, observed: Observations, now_ms: int, patience: Patience) -> Step | None:
    attempts = list(state.attempts.get(endpoint, {}).values())
    seen = [attempt for attempt in attempts if attempt.live and attempt.deployment_id in observed]
    wish = state.wishes.get(endpoint)
    if wish is None:
        return Stop(seen[0], REMOVED, state.removals.get(endpoint, "")) if seen else None
    wanted = goal_of(state, wish)
    goal = next((goal for goal in _goals(wanted, attempts) if not _given_up(goal, attempts, patience)), None)
    current = _current(goal, attempts)
    return (
        _tidy(seen, current, goal)
        or _bury(seen, observed, patience)
        or _begin(goal, current, attempts, now_ms, patience)
        or _advance(seen, current, observed, wish)
        or _roll_back(wanted, current, attempts, observed)
        or _retire(seen, current, observed)
    )


def _goals(wanted: Goal | None, attempts: list[Attempt]) -> Iterator[Goal]:
    """Yield what to serve, best first: what is wanted, then what has served since the endpoint exists, latest first.

    While nothing is wanted that there is, what serves may go on, but nothing is started.
    """
    if wanted is not None:
        yield wanted
    for attempt in reversed(attempts):
        if attempt.stop_reason == REMOVED:
            return
        if attempt.served_at is not None and (wanted is not None or attempt.live):
            yield _goal_again(attempt)


def _goal_again(attempt: Attempt) -> Goal:
    return Goal(
        endpoint=attempt.endpoint,
        model=attempt.model,
        version=attempt.version,
        source=attempt.source,
        digest=attempt.digest,
        target=attempt.target,
        generation=attempt.generation,
        cause=attempt.cause,
    )


def _serves(attempt: Attempt, goal: Goal) -> bool:
    """A generation names one model for good, even when the model is renamed."""
    return (attempt.version, attempt.generation) == (goal.version, goal.generation)


def _current(goal: Goal | None, attempts: list[Attempt]) -> Attempt | None:
    """Return the attempt that is to serve the goal: one that does already, else the newest."""
    if goal is None:
        return None
    live = [attempt for attempt in attempts if attempt.live and _serves(attempt, goal)]
    serving = [attempt for attempt in live if attempt.state is AttemptState.SERVING]
    return next(reversed(serving or live), None)


def _bad_ends(goal: Goal, attempts: list[Attempt], patience: Patience) -> list[Attempt]:
    """Return the goal's failures in a row, the last first, back to one that had served for long."""
    ends: list[Attempt] = []
    for attempt in reversed(attempts):
        if attempt.live or not _serves(attempt, goal) or attempt.cause != goal.cause:
            continue
        if attempt.state not in _ENDED_BADLY:
            break
        ends.append(attempt)
        if attempt.served_at is not None and (attempt.ended_at or 0) - attempt.served_at >= patience.stable_ms:
            break
    return ends


def _given_up(goal: Goal, attempts: list[Attempt], patience: Patience) -> bool:
    ends = _bad_ends(goal, attempts, patience)
    return any(attempt.served_at is None for attempt in ends) or len(ends) > patience.restarts


def _tidy(seen: list[Attempt], current: Attempt | None, goal: Goal | None) -> Step | None:
    """Stop what is coming up but no longer wanted."""
    for attempt in seen:
        if attempt is not current and attempt.state is AttemptState.STARTING:
            return Stop(attempt, "superseded", goal.cause if goal else "")
    return None


def _bury(seen: list[Attempt], observed: Observations, patience: Patience) -> Step | None:
    """Give up what has died or does not answer."""
    for attempt in seen:
        sight = observed[attempt.deployment_id]
        starting = attempt.state is AttemptState.STARTING
        limit_ms = patience.start_ms if starting else patience.silence_ms
        if sight.health is Health.ABSENT and (sight.launched or not starting):
            return Fail(attempt, "its instance ended before it answered" if starting else "its instance died")
        if sight.health is Health.SILENT and sight.silent_ms > limit_ms:
            return Fail(attempt, f"no answer to health checks for {limit_ms / 1000:g} s")
    return None


def _begin(
    goal: Goal | None, current: Attempt | None, attempts: list[Attempt], now_ms: int, patience: Patience
) -> Step | None:
    if goal is None or current is not None:
        return None
    ends = _bad_ends(goal, attempts, patience)
    if ends:
        pause = min(patience.first_pause_ms * 2 ** (len(ends) - 1), patience.longest_pause_ms)
        if now_ms < (ends[0].ended_at or 0) + pause:
            return None
    return Begin(goal)


def _advance(seen: list[Attempt], current: Attempt | None, observed: Observations, wish: Wish) -> Step | None:
    """Bring the attempt that is coming up one step further."""
    if current is None or current not in seen or current.state is not AttemptState.STARTING:
        return None
    health = observed[current.deployment_id].health
    if health is Health.ABSENT:
        return Launch(current, wish.config if wish.generation == current.generation else {})
    if health is Health.HEALTHY:
        serving = [attempt for attempt in seen if attempt.state is AttemptState.SERVING]
        return Shift(current, serving[-1].deployment_id if serving else "")
    return None


def _roll_back(
    wanted: Goal | None, current: Attempt | None, attempts: list[Attempt], observed: Observations
) -> Step | None:
    """Say that what serves is not what is wanted, once per failed attempt and only when it serves indeed."""
    if wanted is None or current is None or _serves(current, wanted) or not _is_healthy(current, observed):
        return None
    failed = next((attempt for attempt in reversed(attempts) if _serves(attempt, wanted)), None)
    if failed is None or failed.state is not AttemptState.FAILED:
        return None
    return RollBack(failed, current, f"version {failed.version} failed; version {current.version} serves")


def _retire(seen: list[Attempt], current: Attempt | None, observed: Observations) -> Step | None:
    """Stop what the current attempt has replaced, now that it answers."""
    if current is None or not _is_healthy(current, observed):
        return None
    for attempt in seen:
        if attempt is not current:
            return Stop(attempt, "replaced", current.cause)
    return None


def _is_healthy(attempt: Attempt, observed: Observations) -> bool:
    sight = observed.get(attempt.deployment_id)
    return attempt.state is AttemptState.SERVING and sight is not None and sight.health is Health.HEALTHY
