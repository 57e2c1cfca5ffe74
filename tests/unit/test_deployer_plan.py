"""The deployer's fold and plan, against a small world in memory where versions can be bad and instances can die."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtide_consumers.deployer.plan import (
    Begin,
    Fail,
    Goal,
    Health,
    Launch,
    Observation,
    Patience,
    RollBack,
    Shift,
    Step,
    Stop,
    goal_of,
    plan,
)
from runtide_consumers.deployer.state import Attempt, AttemptState, State, fold
from runtide_schemas.events.catalog import (
    AliasMoved,
    DeploymentRemoved,
    DeploymentRequested,
    ModelVersionDeleted,
    ModelVersionRegistered,
    RegisteredModelRenamed,
)
from runtide_schemas.events.deployments import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentStopped,
    DeploymentSucceeded,
)
from tests.unit.event_log import AT, EventLog, answer

PATIENCE = Patience(restarts=2, first_pause_ms=1_000, stable_ms=60_000)


@dataclass
class World:
    """A log, the state folded from it, instances, and versions that never come up."""

    log: EventLog = field(default_factory=EventLog)
    state: State = field(default_factory=State)
    instances: dict[str, int] = field(default_factory=dict)
    launched: set[str] = field(default_factory=set)
    bad: set[int] = field(default_factory=set)
    now: int = AT
    steps: list[Step] = field(default_factory=list)
    requests: int = 0
    attempts: int = 0
    generations: int = 0

    def say(self, body: Any, writer: str = "registrar", cause: str = "") -> None:
        """Publish an event and fold it."""
        fold(self.state, self.log.append(body, writer, cause=cause))

    def register(self, version: int, *aliases: str) -> None:
        self.requests += 1
        self.say(
            ModelVersionRegistered(
                answer=answer(self.requests), name="m", version=version, source=f"v{version}", aliases=aliases, at=AT
            )
        )

    def request(self, follow: str = "latest", alias: str = "", version: int = 0, endpoint: str = "e") -> None:
        self.requests += 1
        self.generations += 1
        self.say(
            DeploymentRequested(
                answer=answer(self.requests),
                endpoint=endpoint,
                model="m",
                follow=follow,
                alias=alias,
                version=version,
                generation=self.generations,
                at=AT,
            )
        )

    def move(self, alias: str, version: int) -> None:
        self.requests += 1
        self.say(AliasMoved(answer=answer(self.requests), name="m", alias=alias, version=version, at=AT))

    def remove(self, endpoint: str = "e") -> None:
        self.requests += 1
        self.say(DeploymentRemoved(answer=answer(self.requests), endpoint=endpoint, at=AT))

    def observed(self) -> dict[str, Observation]:
        return {attempt.deployment_id: self._sight(attempt) for attempt in self.state.live_attempts()}

    def turn(self) -> list[Step]:
        """Plan once and do it."""
        steps = plan(self.state, self.observed(), self.now, PATIENCE)
        for step in steps:
            self.perform(step)
        self.steps += steps
        return steps

    def settle(self) -> list[str]:
        """Turn until nothing is left to do and return what was done, in words."""
        begun = len(self.steps)
        for _ in range(200):
            if not self.turn():
                return [type(step).__name__ for step in self.steps[begun:]]
        raise AssertionError(f"never settles: {self.steps[-6:]}")

    def die(self, endpoint: str = "e") -> None:
        for attempt in self.serving(endpoint):
            self.instances.pop(attempt.deployment_id, None)

    def crash(self) -> None:
        """The deployer dies: the state comes from the log alone, the instances stay."""
        self.launched = set()
        self.state = State()
        for place in sorted(self.log.partitions, reverse=bool(self.now % 2)):
            for event in self.log.partitions[place]:
                fold(self.state, event)

    def serving(self, endpoint: str = "e") -> list[Attempt]:
        attempts = self.state.attempts.get(endpoint, {}).values()
        return [attempt for attempt in attempts if attempt.state is AttemptState.SERVING]

    def versions(self, endpoint: str = "e") -> list[int]:
        return [attempt.version for attempt in self.serving(endpoint)]

    def perform(self, step: Step) -> None:
        """Do a step as the executor does: act, then say so."""
        self.now += 1
        if isinstance(step, Begin):
            self._begin(step.goal)
        elif isinstance(step, Launch):
            assert step.attempt.deployment_id not in self.instances, "started twice"
            self.launched.add(step.attempt.deployment_id)
            if step.attempt.version not in self.bad:
                self.instances[step.attempt.deployment_id] = step.attempt.version
        elif isinstance(step, Shift):
            self._fact(DeploymentSucceeded, step.attempt, url="u", replaced=step.replaced)
        elif isinstance(step, Fail | Stop):
            self.instances.pop(step.attempt.deployment_id, None)
            kind = DeploymentFailed if isinstance(step, Fail) else DeploymentStopped
            self._fact(kind, step.attempt, reason=step.reason)
        else:
            self._roll_back(step)

    def _begin(self, goal: Goal) -> None:
        self.attempts += 1
        body = DeploymentStarted(
            deployment_id=f"d{self.attempts}",
            endpoint=goal.endpoint,
            model=goal.model,
            version=goal.version,
            source=goal.source,
            target=goal.target,
            generation=goal.generation,
            at=self.now,
        )
        self.say(body, "deployer", goal.cause)

    def _roll_back(self, step: RollBack) -> None:
        body = DeploymentRolledBack(
            deployment_id=step.failed.deployment_id,
            endpoint=step.failed.endpoint,
            model=step.failed.model,
            from_version=step.failed.version,
            to_version=step.to.version,
            to_deployment_id=step.to.deployment_id,
            reason=step.reason,
            at=self.now,
        )
        self.say(body, "deployer")

    def _fact(self, kind: Any, attempt: Attempt, **fields: Any) -> None:
        body = kind(
            deployment_id=attempt.deployment_id,
            endpoint=attempt.endpoint,
            model=attempt.model,
            version=attempt.version,
            at=self.now,
            **fields,
        )
        self.say(body, "deployer", attempt.cause)

    def _sight(self, attempt: Attempt) -> Observation:
        launched = attempt.deployment_id in self.launched
        there = attempt.deployment_id in self.instances
        return Observation(Health.HEALTHY if there else Health.ABSENT, launched)


def test_a_wish_is_served_and_each_step_has_its_cause() -> None:
    world = World()
    world.request()
    assert world.settle() == [], "there is no version yet"
    world.register(1)
    assert world.settle() == ["Begin", "Launch", "Shift"]
    registered = next(
        event.envelope.id for events in world.log.partitions.values() for event in events
        if isinstance(event.body, ModelVersionRegistered)
    )  # fmt: skip
    assert world.serving()[0].cause == registered


def test_a_new_version_replaces_the_old_one_only_once_it_answers() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    world.register(2)
    world.turn()
    world.turn()
    assert world.versions() == [1], "the old one serves while the new one comes up"
    assert world.settle() == ["Shift", "Stop"]
    assert world.versions() == [2]
    assert list(world.instances.values()) == [2]


def test_a_version_that_never_comes_up_leaves_the_old_one_serving() -> None:
    world = World(bad={2})
    world.register(1)
    world.request()
    world.settle()
    world.register(2)
    assert world.settle() == ["Begin", "Launch", "Fail", "RollBack"]
    assert world.versions() == [1]
    world.now += 1_000_000
    assert world.settle() == [], "it is not tried again"
    world.register(3)
    assert world.settle() == ["Begin", "Launch", "Shift", "Stop"]
    assert world.versions() == [3]


def test_an_instance_that_dies_is_restarted_after_a_pause_and_given_up_after_some() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    pauses = []
    for _ in range(PATIENCE.restarts):
        world.die()
        assert world.settle() == ["Fail"]
        died = world.now
        while not world.settle():
            world.now += 100
        pauses.append(world.now - died)
        assert world.versions() == [1]
    assert 1_000 <= pauses[0] < 1_300
    assert 2_000 <= pauses[1] < 2_300
    world.die()
    assert world.settle() == ["Fail"]
    world.now += 1_000_000
    assert world.settle() == []
    assert world.versions() == []


def test_an_instance_that_served_for_long_before_it_died_has_all_its_chances_again() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    for _ in range(3 * PATIENCE.restarts):
        world.now += PATIENCE.stable_ms
        world.die()
        world.settle()
        world.now += 30_000
        assert "Shift" in world.settle()


def test_a_version_that_dies_for_good_after_the_shift_is_rolled_back_to_the_one_before() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    world.register(2)
    world.settle()
    for _ in range(PATIENCE.restarts + 1):
        world.die()
        world.settle()
        world.now += 30_000
        world.settle()
    assert world.versions() == [1]
    rolled = [step for step in world.steps if isinstance(step, RollBack)]
    assert [(step.failed.version, step.to.version) for step in rolled] == [(2, 1)]


def test_an_alias_is_followed_both_ways_and_a_pin_is_kept() -> None:
    world = World()
    world.register(1, "live")
    world.register(2)
    world.request("alias", alias="live")
    world.request("version", version=1, endpoint="pinned")
    world.settle()
    assert (world.versions(), world.versions("pinned")) == ([1], [1])
    for version in (2, 1):
        world.move("live", version)
        world.settle()
        assert (world.versions(), world.versions("pinned")) == ([version], [1])


def test_moving_an_alias_to_a_failed_version_again_gives_it_another_chance() -> None:
    world = World(bad={2})
    world.register(1, "live")
    world.register(2)
    world.request("alias", alias="live")
    world.settle()
    world.move("live", 2)
    world.settle()
    assert world.versions() == [1]
    world.bad.clear()
    world.move("live", 2)
    world.settle()
    assert world.versions() == [2]


def test_a_removed_endpoint_is_stopped_and_its_past_is_no_way_back() -> None:
    world = World(bad={2})
    world.register(1)
    world.request()
    world.settle()
    world.remove()
    assert world.settle() == ["Stop"]
    assert world.instances == {}
    world.register(2)
    world.request()
    world.settle()
    assert world.versions() == []
    assert world.instances == {}


def test_a_wish_that_changes_midway_stops_what_was_coming_up() -> None:
    world = World()
    world.register(1)
    world.request()
    world.turn()
    world.turn()
    world.register(2)
    assert world.settle() == ["Stop", "Begin", "Launch", "Shift"]
    assert list(world.instances.values()) == [2]


def test_a_deleted_version_goes_on_serving_until_there_is_another() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    world.requests += 1
    world.say(ModelVersionDeleted(answer=answer(world.requests), name="m", version=1, at=AT))
    assert world.settle() == []
    assert world.versions() == [1]
    world.register(2)
    world.settle()
    assert world.versions() == [2]


def test_a_renamed_model_is_not_deployed_again() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    world.requests += 1
    world.say(RegisteredModelRenamed(answer=answer(world.requests), name="n", previous_name="m", at=AT))
    assert world.settle() == []
    goal = goal_of(world.state, world.state.wishes["e"])
    assert goal is not None
    assert goal.model == "n"


@pytest.mark.parametrize(("silent_ms", "fails"), [(PATIENCE.silence_ms, False), (PATIENCE.silence_ms + 1, True)])
def test_an_instance_that_does_not_answer_is_given_some_time(silent_ms: int, fails: bool) -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    sight = {world.serving()[0].deployment_id: Observation(Health.SILENT, silent_ms=silent_ms)}
    assert [type(step) for step in plan(world.state, sight, world.now, PATIENCE)] == [Fail] * fails


def test_an_attempt_that_is_not_observed_is_left_alone() -> None:
    world = World()
    world.register(1)
    world.request()
    world.settle()
    world.remove()
    assert plan(world.state, {}, world.now, PATIENCE) == []


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0))
def test_whatever_happens_and_wherever_it_crashes_it_ends_with_what_is_wanted_and_no_orphan(seed: int) -> None:
    random, world = Random(seed), World(bad={3, 6})
    for version in range(1, 9):
        _something_happens(world, random, version)
        for _ in range(random.randrange(6)):
            steps = plan(world.state, world.observed(), world.now, PATIENCE)
            for step in steps:
                if random.random() < 0.2:
                    _perform_half(world, step)
                    world.crash()
                else:
                    world.perform(step)
        world.now += random.choice([1, 2_000, 100_001])
    world.bad.clear()
    world.request()
    world.register(9)
    world.now += 1_000_000
    world.settle()
    assert world.versions() == [9]
    assert list(world.instances) == [world.serving()[0].deployment_id]
    world.crash()
    assert world.settle() == []


def _something_happens(world: World, random: Random, version: int) -> None:
    if random.random() < 0.3:
        world.register(version, *random.choice([("live",), ()]))
        return
    wishes = [("latest", "", 0), ("alias", "live", 0), ("version", "", random.randrange(1, 9))]
    happening = random.randrange(4)
    if happening < 2:
        world.request(*random.choice(wishes))
    elif happening == 2:
        world.remove()
    else:
        world.die()


def _perform_half(world: World, step: Step) -> None:
    """Act without saying so: the deployer dies before the broker has the fact."""
    if isinstance(step, Launch) and step.attempt.version not in world.bad:
        world.instances.setdefault(step.attempt.deployment_id, step.attempt.version)
    if isinstance(step, Stop | Fail):
        world.instances.pop(step.attempt.deployment_id, None)
