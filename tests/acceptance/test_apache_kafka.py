"""The main job unchanged on Apache Kafka: one that runs already, and one that the stack runs itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide_deploy.apache_kafka import ApacheKafka, ApacheKafkaSettings, CannotResolve
from tests.acceptance.stack import eventually, running_stack
from tests.acceptance.test_demo import RUNTIDE, assert_whole
from tests.broker_process import wait_until

pytestmark = [pytest.mark.slow]


@pytest.fixture
def apache(tmp_path: Path) -> Iterator[ApacheKafka]:
    node = ApacheKafka(ApacheKafkaSettings(data=tmp_path / "apache", port=0))
    try:
        node.prepare()
    except CannotResolve as error:
        pytest.skip(f"no Apache Kafka: {str(error).splitlines()[0]}")
    with node.running() as running:
        yield running


def test_the_demo_on_a_running_apache_kafka_and_on_one_of_its_own(tmp_path: Path, apache: ApacheKafka) -> None:
    for number, kafka in enumerate((apache.address, "java")):
        demo = subprocess.run(
            [str(RUNTIDE), "demo", "--data", str(tmp_path / f"demo-{number}"), "--kafka", kafka],
            env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert_whole(demo.stdout + demo.stderr, demo.returncode)


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


def test_nothing_is_lost_when_the_stacks_apache_kafka_is_killed(tmp_path: Path, apache: ApacheKafka) -> None:
    apache.kill()  # only asked whether one can be had
    with running_stack(tmp_path / "data", "--kafka", "java") as stack:
        program = tmp_path / "program.py"
        program.write_text(LOG_POINTS)
        writer = subprocess.Popen(
            [str(RUNTIDE.parent / "python"), str(program)],
            env=stack.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        run = writer.stdout.readline().strip()
        assert writer.stdout.readline() == "half\n"
        before = stack.services()["broker"]
        os.kill(before, 9)
        writer.communicate("\n", timeout=90)
        assert writer.returncode == 0
        wait_until(lambda: stack.services()["broker"] != before, 30)
        eventually(lambda: stack.runtide("sync", check=False).returncode == 0, "what was not sent at the end is", 60)
        counted = f"SELECT count(*) AS points, count(DISTINCT step) AS steps FROM metrics WHERE run_id = '{run}'"
        whole = [{"points": 2000, "steps": 2000}]
        eventually(lambda: stack.sql(counted) == whole, "every point, once", 90)
