"""The main job unchanged on Apache Kafka: one that runs already, and one or three that the stack runs itself."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtide_deploy.apache_kafka import (
    ApacheKafka,
    ApacheKafkaSettings,
    CannotResolve,
    java_command,
    resolve_class_path,
)
from tests.acceptance.stack import RunningStack, eventually, running_stack
from tests.acceptance.test_demo import RUNTIDE, assert_whole
from tests.kafka_cluster import in_sync

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="session")
def java() -> None:
    """Apache Kafka can be had here."""
    try:
        java_command()
        resolve_class_path()
    except CannotResolve as error:
        pytest.skip(f"no Apache Kafka: {str(error).splitlines()[0]}")


@pytest.fixture
def apache(tmp_path: Path, java: None) -> Iterator[ApacheKafka]:
    with ApacheKafka(ApacheKafkaSettings(data=tmp_path / "apache", port=0)).running() as running:
        yield running


def demo(data: Path, kafka: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(RUNTIDE), "demo", "--data", str(data), "--kafka", kafka],
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.mark.timeout(400)
def test_the_demo_on_a_running_apache_kafka_and_on_one_of_its_own(tmp_path: Path, apache: ApacheKafka) -> None:
    for number, kafka in enumerate((apache.address, "java")):
        done = demo(tmp_path / f"demo-{number}", kafka)
        assert_whole(done.stdout + done.stderr, done.returncode)
    refused = demo(tmp_path / "demo-0", "java")
    assert refused.returncode == 3
    assert f"Start with --kafka {apache.address}, as before, or give a directory of its own" in refused.stderr


@pytest.mark.timeout(400)
def test_the_demo_on_three_brokers(tmp_path: Path, java: None) -> None:
    done = demo(tmp_path / "demo", "java:3")
    assert_whole(done.stdout + done.stderr, done.returncode)
    refused = demo(tmp_path / "demo", "java")
    assert refused.returncode == 3
    assert "holds an Apache Kafka cluster of 3, not 1" in refused.stderr


LOG_POINTS = """
import runtide
runtide.init(experiment="kills")
with runtide.start_run(name="logged") as run:
    print(run.run_id, flush=True)
    for step in range(2000):
        run.log_metric("loss", step, step=step)
        if step == 1000:
            print("half", flush=True)
            input()
"""


@contextmanager
def half_logged(stack: RunningStack, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A run that has logged half of its points and goes on when the block says so."""
    program = folder / "program.py"
    program.write_text(LOG_POINTS)
    with subprocess.Popen(
        [str(RUNTIDE.parent / "python"), str(program)],
        env=stack.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        run = writer.stdout.readline().strip()
        assert writer.stdout.readline() == "half\n"

        def go_on() -> None:
            writer.communicate("\n", timeout=170)
            assert writer.returncode == 0

        yield run, go_on


def assert_complete(stack: RunningStack, run: str) -> None:
    eventually(lambda: stack.runtide("sync", check=False).returncode == 0, "what was not sent at the end is")
    counted = f"SELECT count(*) AS points, count(DISTINCT step) AS steps FROM metrics WHERE run_id = '{run}'"
    whole = [{"points": 2000, "steps": 2000}]
    eventually(lambda: stack.sql(counted) == whole, "every point, once")
    eventually(lambda: stack.get(f"/runs/{run}/completeness")["state"] == "complete", "the run complete")


def test_nothing_is_lost_when_the_stacks_apache_kafka_is_killed(tmp_path: Path, java: None) -> None:
    with running_stack(tmp_path / "data", "--kafka", "java") as stack, half_logged(stack, tmp_path) as (run, go_on):
        before = stack.services()["broker"]
        os.kill(before, signal.SIGKILL)
        go_on()
        eventually(lambda: stack.services()["broker"] != before, "the broker is started again")
        assert_complete(stack, run)


@pytest.mark.timeout(400)
def test_nothing_is_lost_when_every_broker_of_three_is_killed_in_turn(tmp_path: Path, java: None) -> None:
    """Whichever of them leads the run's partitions is among the killed, while the run is being logged."""
    with running_stack(tmp_path / "data", "--kafka", "java:3") as stack, half_logged(stack, tmp_path) as (run, go_on):
        for name in ("broker-1", "broker-2", "broker-3"):
            eventually(lambda: in_sync(stack.file.broker, "runtide."), "all replicas in sync")
            before = stack.services()[name]
            os.kill(before, signal.SIGKILL)
            if name == "broker-2":
                go_on()
            eventually(lambda: stack.services()[name] != before, f"{name} is started again")  # noqa: B023
        assert_complete(stack, run)
