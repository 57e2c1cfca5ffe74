"""Logs with everything in them that a fold must stand: duplicates, holes, late facts, two registrars, odd floats."""

import struct
from random import Random
from typing import Any

from runtide_consumers.projection import Event
from runtide_schemas import topics
from runtide_schemas.events.catalog import (
    AliasMoved,
    ExperimentCreated,
    ModelVersionDeleted,
    ModelVersionRegistered,
    StageTransitioned,
)
from runtide_schemas.events.deployments import DeploymentStarted, DeploymentStopped, DeploymentSucceeded
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import (
    ModelLogged,
    ParamsLogged,
    RunEnded,
    RunLost,
    RunRecovered,
    RunStarted,
    RunUpdated,
    TagsDeleted,
    TagsSet,
    WriterClosed,
    WriterOpened,
)
from tests.unit.event_log import AT, EventLog, answer, metrics

_VALUES = (0.0, -0.0, float("nan"), struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0], float("inf"), 1e-308)


def random_log(random: Random) -> EventLog:
    """Return a log of a few runs and writers, with duplicates, holes, late events and two registrars."""
    log, held, holes, facts = EventLog(), list[Event](), list[tuple[str, str, int]](), _Facts(random)
    for number in range(random.randint(5, 60)):
        run, writer = f"r{random.randrange(3)}", f"w{random.randrange(2)}"
        body = _run_event(random, run, writer, number)
        skip = random.randint(1, 3) if isinstance(body, MetricsLogged) and random.random() < 0.2 else 0
        event = log.append(body, writer, skip=skip)
        holes += [(run, writer, event.envelope.seq - missing) for missing in range(1, skip + 1)]
        if random.random() < 0.2:
            held.append(event)
        if holes and random.random() < 0.2:
            late_run, late_writer, seq = random.choice(holes)
            log.append(metrics(late_run, [("late", seq, AT, 1.0)]), late_writer, seq=seq)
        if random.random() < 0.3:
            log.append(facts.next(), f"registrar-{random.randrange(2)}")
        if random.random() < 0.15:
            log.append(_deployment(random), "deployer")
        if held and random.random() < 0.3:
            log.again(random.choice(held))
    return log


def _run_event(random: Random, run: str, writer: str, number: int) -> Any:
    value = str(random.randrange(4))
    return random.choice(
        [
            metrics(run, [("loss", number, AT + number, random.choice(_VALUES)) for _ in range(random.randint(1, 4))]),
            metrics(run, [(f"k{value}", number, AT, random.choice(_VALUES)), ("loss", 0, AT, 1.0)]),
            RunStarted(run_id=run, name=f"n{value}", experiment_request=f"request-{value}", start_time=AT),
            ParamsLogged(run_id=run, params={f"p{value}": str(number)}),
            RunUpdated(run_id=run, status=random.choice(["RUNNING", "FAILED", None]), name=random.choice(["x", None])),
            WriterOpened(
                run_id=run, writer_id=writer, host=f"h{value}", pid=number, rank=random.choice([None, 1]), at=AT
            ),
            ModelLogged(
                run_id=run,
                model_id=f"m-{value}",
                name=run,
                artifact_path="a",
                uri="u",
                digest="d",
                size=number,
                flavors=("sklearn", "python_function"),
                at=AT,
            ),
            TagsSet(run_id=run, tags={f"t{value}": str(number)}),
            TagsDeleted(run_id=run, keys=(f"t{value}",)),
            RunEnded(run_id=run, status="FINISHED", end_time=AT + number),
            RunLost(run_id=run, episode=random.randrange(1, 4), silent_since=AT + number, at=AT),
            RunRecovered(run_id=run, episode=random.randrange(1, 4), at=AT),
            WriterClosed(run_id=run, writer_id=writer, counts={topics.RUNS: number}, at=AT),
        ]
    )


class _Facts:
    """A registrar's facts in their order; now and then one answers a request that has been answered already."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._offset = 0
        self._version = 0

    def next(self) -> Any:
        """Return the next fact."""
        self._offset += 1
        if self._version == 0 or self._random.random() < 0.4:
            return self._registered()
        at = answer(self._offset - self._random.choice([0, 0, 0, 1]))
        number = self._random.randint(1, self._version)
        experiment = str(self._random.randrange(1, 4))
        return self._random.choice(
            [
                ExperimentCreated(answer=at, experiment_id=experiment, name=f"e{self._offset}", at=AT),
                ExperimentCreated(answer=at, experiment_id=experiment, name=f"e{self._offset}", at=AT + 1),
                AliasMoved(answer=at, name="m", alias="best", version=number, at=AT + self._offset),
                ModelVersionDeleted(answer=at, name="m", version=number, at=AT + self._offset),
                StageTransitioned(
                    answer=at,
                    name="m",
                    version=number,
                    stage="Production",
                    previous_stage="None",
                    archived_versions=(),
                    at=AT + self._offset,
                ),
            ]
        )

    def _registered(self) -> ModelVersionRegistered:
        self._version += 1
        return ModelVersionRegistered(
            answer=answer(self._offset),
            name="m",
            version=self._version,
            source="s",
            model_created=self._version == 1,
            at=AT,
        )


def _deployment(random: Random) -> Any:
    about: dict[str, Any] = {
        "deployment_id": f"d{random.randrange(3)}",
        "endpoint": "e",
        "model": "m",
        "at": AT + random.randrange(9),
    }
    number = random.randrange(3)
    if number == 0:
        return DeploymentStopped(**about, version=1, reason="removed")
    if number == 1:
        return DeploymentSucceeded(**about, version=1, url="http://x", instance={"pid": "1", "host": "ä"})
    return DeploymentStarted(**about, version=1, source="s", target="local", generation=1)
