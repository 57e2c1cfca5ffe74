"""The deployer process with the real broker: real instances, facts in the log, and its death at any moment."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil
import pytest
from sklearn.linear_model import LinearRegression

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide.models import save_model
from runtide_consumers.decoding import decode_record
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.projection import Event
from runtide_schemas import topics
from runtide_schemas.errors import TransientError
from runtide_schemas.events.catalog import Answer, DeploymentRemoved, DeploymentRequested, ModelVersionRegistered
from runtide_schemas.events.deployments import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentStopped,
    DeploymentSucceeded,
)
from tests.integration.service_processes import Service, running_broker, started, with_topics

pytestmark = pytest.mark.gate

DEADLINE_S = 120.0


@dataclass
class Lab:
    """A broker, a catalogue that the test writes itself, and a deployer to start."""

    folder: Path
    kafka: KafkaSettings
    catalogue: DirectPublisher
    broker: Service
    requests: int = 0

    def deployer(
        self, name: str = "deployer", *options: str, target: str = "local=tests.integration.fake_serving:fake_target"
    ) -> Service:
        """Return a deployer on this lab's state, with servers that start at once unless told otherwise."""
        arguments = ("--state", str(self.folder / "state"), "--target", target, *options)
        return Service(self.folder, name, "runtide_consumers.deployer", *arguments, bootstrap=self.kafka.bootstrap)

    async def register(self, version: int, behaviour: str = "serve") -> str:
        """Register a version that behaves so; return the fact's id."""
        (self.folder / f"v{version}").mkdir()
        (self.folder / f"v{version}" / "behaviour").write_text(behaviour)
        source = (self.folder / f"v{version}").as_uri()
        body = ModelVersionRegistered(answer=self.answer(), name="m", version=version, source=source, at=1)
        return (await self.catalogue.publish(body)).id

    async def request(self) -> None:
        """Ask that endpoint ``e`` follow the latest version of ``m``."""
        body = DeploymentRequested(answer=self.answer(), endpoint="e", model="m", generation=self.requests, at=1)
        await self.catalogue.publish(body)

    async def remove(self) -> None:
        """Ask that endpoint ``e`` go away."""
        await self.catalogue.publish(DeploymentRemoved(answer=self.answer(), endpoint="e", at=1))

    async def facts(self) -> list[Event]:
        """Return all facts of the deployer."""
        reader = await self._reader()
        wanted, events, positions = asyncio.Event(), list[Event](), reader.positions_at_start()
        wanted.set()
        try:
            while not reader.reached(positions):
                for record in await reader.fetch(BatchLimits(), wanted):
                    event = decode_record(record)
                    assert isinstance(event, Event)
                    events.append(event)
                    positions[event.origin.topic_partition] = event.origin.offset + 1
        finally:
            await reader.close()
        return events

    async def _reader(self) -> LogReader:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return await LogReader.open(self.kafka, {topics.DEPLOYMENTS}, {})
            except TransientError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    async def until(self, condition: Callable[[list[Any]], bool]) -> list[Any]:
        """Wait until the bodies of the facts are so, and return them."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition(bodies := [event.body for event in await self.facts()]):
            assert time.monotonic() < deadline, bodies
            await asyncio.sleep(0.1)
        return bodies

    def servers(self) -> list[psutil.Process]:
        """Return the scoring servers of this lab that run."""
        mine = str(self.folder / "state")
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "--ready-file" in line and any(mine in word for word in line):
                found.append(process)
        return found

    def starts(self, version: int) -> int:
        """Return how often a server of the version was started."""
        path = self.folder / f"v{version}" / "starts"
        return len(path.read_text().split()) if path.exists() else 0

    def answer(self) -> Answer:
        """Return the answer to the next request."""
        self.requests += 1
        return Answer(request_id=f"q{self.requests}", request_offset=self.requests, request_writer="c", request_seq=0)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A broker with topics and nothing wanted yet; servers that a test leaves are ended."""
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        async with DirectPublisher(kafka, "registrar") as catalogue:
            lab = Lab(tmp_path, kafka, catalogue, broker)
            yield lab
            for process in lab.servers():
                process.kill()


def kinds(bodies: list[Any]) -> list[str]:
    """Return the kinds of facts in words."""
    return [type(body).__name__.removeprefix("Deployment") for body in bodies]


def serving_version(bodies: list[Any]) -> int:
    """Return the version that the facts say serves; 0 when none does."""
    stopped = {body.deployment_id for body in bodies if isinstance(body, DeploymentStopped | DeploymentFailed)}
    shifts = [body for body in bodies if isinstance(body, DeploymentSucceeded) and body.deployment_id not in stopped]
    return shifts[-1].version if len(shifts) == 1 else 0


async def test_versions_are_brought_up_shifted_and_stopped_with_their_causes(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        await lab.request()
        first = await lab.register(1)
        bodies = await lab.until(lambda bodies: kinds(bodies) == ["Started", "Succeeded"])
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            assert (await client.get(f"{bodies[1].url}/ping")).status_code == 200
        assert [process.pid for process in lab.servers()] == [int(bodies[1].instance["pid"])]
        second = await lab.register(2)
        bodies = await lab.until(lambda bodies: len(bodies) == 5)
        assert kinds(bodies) == ["Started", "Succeeded", "Started", "Succeeded", "Stopped"]
        assert (bodies[3].replaced, bodies[4].deployment_id) == (bodies[0].deployment_id,) * 2
        assert [event.envelope.cause for event in await lab.facts()] == [first, first, second, second, second]
        await lab.remove()
        bodies = await lab.until(lambda bodies: len(bodies) == 6)
        assert (kinds(bodies)[-1], bodies[-1].reason) == ("Stopped", "removed")
        assert lab.servers() == []
        assert deployer.stop() == 0


async def test_a_version_that_does_not_come_up_fails_with_its_log_and_the_old_one_stays(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        await lab.register(1)
        await lab.request()
        await lab.until(lambda bodies: serving_version(bodies) == 1)
        await lab.register(2, "fail")
        bodies = await lab.until(lambda bodies: kinds(bodies)[-1:] == ["RolledBack"])
    assert kinds(bodies) == ["Started", "Succeeded", "Started", "Failed", "RolledBack"]
    assert "this model is broken" in bodies[3].reason
    assert (bodies[4].from_version, bodies[4].to_deployment_id) == (2, bodies[0].deployment_id)
    assert serving_version(bodies) == 1
    assert len(lab.servers()) == 1


async def test_the_real_server_scores_and_other_content_than_registered_is_refused(lab: Lab) -> None:
    regression = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    model = save_model(regression, lab.folder / "model")
    with started(lab.deployer(target="local")) as deployer:
        deployer.ready()
        await lab.request()
        for version, digest in ((1, model.digest), (2, "0" * 64)):
            source = (lab.folder / "model").as_uri()
            body = ModelVersionRegistered(
                answer=lab.answer(), name="m", version=version, source=source, digest=digest, at=1
            )
            await lab.catalogue.publish(body)
            bodies = await lab.until(lambda bodies: kinds(bodies)[-1:] in (["Succeeded"], ["RolledBack"]))
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                reply = await client.post(f"{bodies[1].url}/invocations", json={"inputs": [[2.0]]})
                assert reply.json()["predictions"] == pytest.approx([5.0])
    assert kinds(bodies) == ["Started", "Succeeded", "Started", "Failed", "RolledBack"]
    assert "expected was 000" in bodies[3].reason


async def test_a_source_that_is_not_there_fails_and_says_so(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        await lab.request()
        source = (lab.folder / "nowhere").as_uri()
        body = ModelVersionRegistered(answer=lab.answer(), name="m", version=1, source=source, at=1)
        await lab.catalogue.publish(body)
        bodies = await lab.until(lambda bodies: len(bodies) == 2)
    assert kinds(bodies) == ["Started", "Failed"]
    assert "is not a directory on this machine" in bodies[1].reason


async def test_an_instance_that_dies_is_restarted(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        await lab.register(1)
        await lab.request()
        await lab.until(lambda bodies: serving_version(bodies) == 1)
        [server] = lab.servers()
        server.kill()
        bodies = await lab.until(
            lambda bodies: kinds(bodies) == ["Started", "Succeeded", "Failed", "Started", "Succeeded"]
        )
    assert bodies[2].reason.startswith("its instance died")
    assert len(lab.servers()) == 1
    assert lab.starts(1) == 2


async def test_instances_survive_the_deployer_and_are_found_again(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        await lab.register(1)
        await lab.request()
        await lab.until(lambda bodies: serving_version(bodies) == 1)
    [server] = lab.servers()
    with started(lab.deployer("second")) as deployer:
        assert deployer.ready() == "1 live"
        await lab.register(2)
        bodies = await lab.until(lambda bodies: len(bodies) == 5)
    assert serving_version(bodies) == 2
    assert server.pid not in [process.pid for process in lab.servers()]
    assert (lab.starts(1), lab.starts(2)) == (1, 1)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
@pytest.mark.gate
async def test_killed_at_any_moment_it_resumes_without_a_double_start_or_an_orphan(lab: Lab, seed: int) -> None:
    random = Random(seed)
    await lab.request()
    for version in (1, 2, 3):
        await lab.register(version, random.choice(["serve", "slow"]))
        with started(lab.deployer()) as deployer:
            deployer.ready()
            await asyncio.sleep(random.random() * 1.5)  # a random moment of the roll-out is the point
    with started(lab.deployer()) as deployer:
        deployer.ready()
        bodies = await lab.until(lambda bodies: serving_version(bodies) == 3)
        deadline = time.monotonic() + DEADLINE_S
        while len(lab.servers()) != 1:
            assert time.monotonic() < deadline, lab.servers()
            await asyncio.sleep(0.1)
        [server] = lab.servers()
        assert server.pid == int(
            next(b for b in reversed(bodies) if isinstance(b, DeploymentSucceeded)).instance["pid"]
        )
    attempts = [body for body in bodies if isinstance(body, DeploymentStarted)]
    for version in (1, 2, 3):
        assert lab.starts(version) <= len([attempt for attempt in attempts if attempt.version == version])
    assert not any(isinstance(body, DeploymentFailed | DeploymentRolledBack) for body in bodies)
    assert lab.starts(3) == 1


async def test_a_replay_fires_nothing_twice(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        for version in (1, 2):
            await lab.register(version)
        await lab.request()
        await lab.until(lambda bodies: serving_version(bodies) == 2)
    before = await lab.facts()
    for number in range(3):
        with started(lab.deployer(f"again-{number}")) as deployer:
            deployer.ready()
            await asyncio.sleep(1)  # time in which it could do something
    assert len(await lab.facts()) == len(before)
    assert (lab.starts(1), lab.starts(2)) == (0, 1)


async def test_asked_to_it_stops_its_instances_on_exit_and_starts_them_the_next_time(lab: Lab) -> None:
    for start in (1, 2):
        with started(lab.deployer(f"start-{start}", "--stop-instances-on-exit")) as deployer:
            deployer.ready()
            if start == 1:
                await lab.register(1)
                await lab.request()
            await lab.until(lambda bodies: serving_version(bodies) == 1)
            assert deployer.stop() == 0
        assert lab.servers() == []
    bodies = [event.body for event in await lab.facts()]
    assert kinds(bodies) == ["Started", "Succeeded", "Stopped"] * 2
    assert bodies[2].reason == "shutdown"


async def test_a_broker_that_dies_in_the_midst_is_waited_for(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        await lab.request()
        await lab.register(1, "slow")
        await lab.until(lambda bodies: kinds(bodies) == ["Started"])
        lab.broker.kill()
        await asyncio.sleep(2)  # the instance comes up meanwhile, and its fact cannot be published
        lab.broker.start()
        bodies = await lab.until(lambda bodies: serving_version(bodies) == 1)
        await lab.register(2)
        bodies = await lab.until(lambda bodies: serving_version(bodies) == 2)
        assert kinds(bodies) == ["Started", "Succeeded", "Started", "Succeeded", "Stopped"]
        assert (lab.starts(1), lab.starts(2)) == (1, 1)


async def test_a_second_deployer_on_the_same_state_is_refused(lab: Lab) -> None:
    with started(lab.deployer()) as deployer:
        deployer.ready()
        with started(lab.deployer("second")) as second:
            assert second.wait() == 3
        assert "another deployer uses" in second.log()
