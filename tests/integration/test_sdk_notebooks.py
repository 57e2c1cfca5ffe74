"""Notebooks: cells may fail and be interrupted, kernels are restarted; the run goes on, and nothing is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.events.runs import RunEnded, WriterClosed
from tests.broker_process import BrokerProcess
from tests.integration.notebook_kernel import NotebookKernel, running_kernel
from tests.integration.sdk_log import (
    Logged,
    assert_complete,
    bodies,
    broker_with_topics,
    deduplicated,
    points_of,
    read_log,
)

pytestmark = pytest.mark.gate

AWAY = "127.0.0.1:9"
START = """
import runtide
run = runtide.start_run("notebook")
for step in range(1000):
    run.log_metric("loss", step * 0.5, step=step)
"""
GO_ON = """
assert runtide.active_run() is run
for step in range(1000, 1500):
    runtide.log_metric("loss", step * 0.5, step=step)
"""
POINTS = [(step, step * 0.5) for step in range(1500)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("notebooks") / "broker") as process:
        yield process


def ends_of(events: list[Logged]) -> tuple[list[str], list[str]]:
    """Return statuses of the run's ends and reasons of its writers' ends."""
    return [e.status for e in bodies(events, RunEnded)], [e.reason for e in bodies(events, WriterClosed)]


def run_with_failing_cells(kernel: NotebookKernel) -> str:
    """Start a run, let cells raise, go on logging; return the run's id."""
    assert kernel.run(START) == ""
    assert kernel.run("raise ValueError('in a cell')") == "ValueError"
    assert kernel.run("import sys; sys.exit(3)") == "SystemExit"
    assert kernel.run(GO_ON) == ""
    return str(kernel.value("run.run_id"))


@pytest.mark.slow
def test_a_failing_cell_ends_no_run_and_a_restart_finishes_it(broker: BrokerProcess, tmp_path: Path) -> None:
    with running_kernel(tmp_path, RUNTIDE_BROKER=broker.address) as kernel:
        run_id = run_with_failing_cells(kernel)
        kernel.manager.restart_kernel()
        kernel.wait_until_ready()
        assert kernel.run("import runtide; assert runtide.active_run() is None") == ""
        assert list((tmp_path / "spool").glob("*/*/writer.json")) == [], "all was delivered before the kernel ended"
    events = deduplicated(read_log(broker.address, run_id))
    assert_complete(events)
    assert points_of(events, "loss") == POINTS
    assert ends_of(events) == (["FINISHED"], ["finished"])


def test_a_restart_without_broker_says_in_the_notebook_what_is_left(broker: BrokerProcess, tmp_path: Path) -> None:
    with running_kernel(tmp_path, RUNTIDE_BROKER=AWAY, RUNTIDE_EXIT_DEADLINE="100") as kernel:
        kernel.manager.shutdown_wait_time = 120.0  # Jupyter's 5 s are too few for a machine under load
        run_id = run_with_failing_cells(kernel)
        began = time.monotonic()
        kernel.manager.shutdown_kernel(restart=True)
        assert time.monotonic() - began < kernel.manager.shutdown_wait_time, "Jupyter had to kill it"
        (directory,) = (path.parent for path in (tmp_path / "spool").glob("*/*/writer.json"))
        assert kernel.said(f"runtide sync {directory}")
    assert sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).complete
    events = deduplicated(read_log(broker.address, run_id))
    assert_complete(events)
    assert points_of(events, "loss") == POINTS
    assert ends_of(events) == (["FINISHED"], ["finished"])


@pytest.mark.parametrize(
    "away", [pytest.param(False, marks=pytest.mark.slow, id="broker up"), pytest.param(True, id="broker away")]
)
def test_a_killed_kernel_loses_no_call_that_returned(broker: BrokerProcess, tmp_path: Path, away: bool) -> None:
    with running_kernel(tmp_path, RUNTIDE_BROKER=AWAY if away else broker.address) as kernel:
        run_id = run_with_failing_cells(kernel)
        kernel.manager.restart_kernel(now=True)
        kernel.wait_until_ready()
        cell = (
            "from runtide.sync import sync; from runtide.kafka import KafkaSettings; from pathlib import Path\n"
            f"report = sync([Path({str(tmp_path / 'spool')!r})], KafkaSettings(bootstrap={broker.address!r}))"
        )
        assert kernel.run(cell) == ""
        assert kernel.value("(report.complete, len(report.spools))") == (True, 1)
    events = deduplicated(read_log(broker.address, run_id))
    assert_complete(events)
    assert points_of(events, "loss") == POINTS
    assert ends_of(events) == (["KILLED"], ["recovered"])


LOG_UNTIL_INTERRUPTED = """
while True:
    run.log_metric("loss", (returned + 1) * 0.5, step=returned + 1)
    returned += 1
    if returned % 1000 == 0:
        run.log_param(f"p{returned}", returned)
"""


@pytest.mark.slow
def test_interrupts_end_no_run_and_lose_no_call_that_returned(broker: BrokerProcess, tmp_path: Path) -> None:
    with running_kernel(tmp_path, RUNTIDE_BROKER=broker.address) as kernel:
        assert kernel.run("import runtide\nrun = runtide.start_run('notebook')\nreturned = -1") == ""
        before = -1
        for _ in range(10):
            kernel.begin(LOG_UNTIL_INTERRUPTED)
            time.sleep(0.1)  # anywhere in the loop
            kernel.interrupt()
            assert kernel.end_of_cell() == "KeyboardInterrupt"
            returned = int(kernel.value("returned"))
            assert returned > before, "it logs on after an interrupt"
            before = returned
        run_id = str(kernel.value("run.run_id"))
        assert kernel.run("assert runtide.active_run() is run; run.end()") == ""
    events = deduplicated(read_log(broker.address, run_id))
    assert_complete(events)
    steps = {step for step, value in points_of(events, "loss") if value == step * 0.5}
    assert steps >= set(range(before + 1)), "a call that had returned is missing"
    assert len(steps) <= before + 2
    assert ends_of(events) == (["FINISHED"], ["finished"])


@pytest.mark.slow
def test_an_interrupt_ends_the_waiting_of_an_end(broker: BrokerProcess, tmp_path: Path) -> None:
    with running_kernel(tmp_path, RUNTIDE_BROKER=AWAY, RUNTIDE_EXIT_DEADLINE="50") as kernel:
        assert kernel.run(START) == ""
        run_id = str(kernel.value("run.run_id"))
        kernel.begin("run.end()")
        time.sleep(0.5)
        began = time.monotonic()
        kernel.interrupt()
        assert kernel.end_of_cell() == "KeyboardInterrupt"
        assert time.monotonic() - began < 40, "of the 50 s"
        assert kernel.said("runtide sync")
        assert kernel.run("assert run.ended and runtide.active_run() is None") == ""
        assert sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).complete, "while the kernel lives"
    events = deduplicated(read_log(broker.address, run_id))
    assert_complete(events)
    assert points_of(events, "loss") == POINTS[:1000]
    assert ends_of(events) == (["FINISHED"], ["finished"])
