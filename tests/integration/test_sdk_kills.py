"""``kill -9`` of the trainer at any instant loses no call that has returned."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.events.runs import ParamsLogged, RunEnded, WriterClosed
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import (
    RUN_TOPICS,
    assert_complete,
    bodies,
    broker_with_topics,
    child,
    deduplicated,
    points_of,
    read_log,
)

TRAINER = """
import os, sys
import runtide
run = runtide.start_run("victim")
os.write(1, f"{run.run_id}\\n".encode())
for step in range(10**9):
    run.log_metric("loss", step * 0.5, step=step)
    os.write(1, b"m%d\\n" % step)
    if step % 50 == 0:
        run.log_param(f"p{step}", step)
        os.write(1, b"p%d\\n" % step)
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("kills") / "broker") as process:
        yield process


def kill_one(broker: BrokerProcess, spool: Path, online: bool, after: float) -> tuple[str, int, int]:
    """Kill a trainer some time after its first call; return run id, last step and last param that had returned."""
    process = child(TRAINER, broker=broker.address if online else "", spool=spool)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    assert run_id, process.communicate()[1]
    time.sleep(after)
    process.kill()
    out, _ = process.communicate(timeout=120)
    said = out[: out.rfind("\n") + 1].split()
    steps = [int(word[1:]) for word in said if word[0] == "m"]
    params = [int(word[1:]) for word in said if word[0] == "p"]
    return run_id, max(steps, default=-1), max(params, default=-1)


def check_kills(broker: BrokerProcess, tmp_path: Path, count: int, seed: int) -> None:
    dice = random.Random(seed)
    victims = [
        kill_one(broker, tmp_path / "spool", online=dice.random() < 0.5, after=dice.uniform(0, 0.15))
        for _ in range(count)
    ]
    settings = KafkaSettings(bootstrap=broker.address)
    report = sync([tmp_path / "spool"], settings)
    assert [spool for spool in report.spools if spool.problem] == []
    assert len(report.spools) == count
    log = deduplicated(read_log(broker.address))
    for run_id, last_step, last_param in victims:
        writers = {event.envelope.writer for event in log if event.topic in RUN_TOPICS and event.body.run_id == run_id}
        events = [event for event in log if event.envelope.writer in writers]
        assert_complete(events)
        points = points_of(events, "loss")
        assert points == [(step, step * 0.5) for step in range(len(points))]
        assert len(points) > last_step, f"steps up to {last_step} had returned, {len(points)} arrived"
        params = {key for body in bodies(events, ParamsLogged) for key in body.params}
        assert {f"p{step}" for step in range(0, last_param + 1, 50)} <= params
        assert [body.reason for body in bodies(events, WriterClosed)] == ["recovered"]
        assert [body.status for body in bodies(events, RunEnded)] == ["KILLED"]
    assert sync([tmp_path / "spool"], settings).spools == ()


def test_a_few_kills_lose_nothing_that_had_returned(broker: BrokerProcess, tmp_path: Path) -> None:
    check_kills(broker, tmp_path, count=4, seed=3)


@pytest.mark.gate
def test_twenty_kills_lose_nothing_that_had_returned(broker: BrokerProcess, tmp_path: Path) -> None:
    check_kills(broker, tmp_path, count=20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_kills_lose_nothing_that_had_returned(broker: BrokerProcess, tmp_path: Path) -> None:
    check_kills(broker, tmp_path, count=200, seed=2)
