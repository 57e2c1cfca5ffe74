"""Pools of worker processes: each worker is a writer of its own, and delivers before it ends. Nothing deadlocks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.events.runs import RunEnded, WriterOpened
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import (
    Logged,
    assert_complete,
    bodies,
    broker_with_topics,
    child,
    deduplicated,
    finished,
    points_of,
    read_log,
)

pytestmark = pytest.mark.gate

TASKS = 12
TASK = """
import os
import runtide

member = None

def work(run_id, number):
    global member
    member = member or runtide.attach(run_id)
    for step in range(100):
        member.log_metric(f"task {number}", float(step), step=step)
    return os.getpid()
"""

POOLS = {
    "joblib, loky": """
import joblib
pids = joblib.Parallel(n_jobs=3)(joblib.delayed(work)(run.run_id, number) for number in range(TASKS))
""",
    **{
        f"ProcessPoolExecutor, {method}": f"""
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
with ProcessPoolExecutor(3, mp_context=get_context("{method}")) as pool:
    pids = list(pool.map(work, [run.run_id] * TASKS, range(TASKS)))
"""
        for method in ("fork", "spawn", "forkserver")
    },
}

TERMINATED = {
    "joblib, multiprocessing": """
import joblib
pids = joblib.Parallel(n_jobs=3, backend="multiprocessing")(
    joblib.delayed(work)(run.run_id, number) for number in range(TASKS)
)
""",
    "multiprocessing.Pool": """
import multiprocessing
with multiprocessing.Pool(3) as pool:
    pids = pool.starmap(work, [(run.run_id, number) for number in range(TASKS)])
""",
}

WAITS_FOR_THEIR_ENDS = "multiprocessing.Pool"
"""The other may leave workers alive until the main process ends; then their own spools are all that tells of them."""
ATTEMPTS = 3
"""A worker that has its SIGTERM may still be dying when the run ends, and is not called dead then; seldom all of them are."""
SLOW = {"joblib, multiprocessing", "ProcessPoolExecutor, spawn", "ProcessPoolExecutor, forkserver"}

TRAIN = """
import json
import runtide
from tasks import work

TASKS = {tasks}
if __name__ == "__main__":
    with runtide.start_run() as run:
        run.log_metric("main", 1.0)  # so that the publisher's thread runs, with locks that a fork might copy
        exec({pool!r})
    print(json.dumps([run.run_id, pids]))
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("pools") / "broker") as process:
        yield process


def trained(broker: BrokerProcess, folder: Path, pool: str) -> tuple[str, list[int], str]:
    """Run tasks in a pool; return the run, each task's process, and what was said on standard error."""
    (folder / "tasks.py").write_text(TASK)
    (folder / "train.py").write_text(TRAIN.format(tasks=TASKS, pool=pool))
    script = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(folder / 'train.py')!r}]))"
    returned, out, errors = finished(child(script, broker=broker.address, spool=folder / "spool"), 120)
    assert returned == 0, errors
    run_id, pids = json.loads(out)
    return run_id, pids, errors


def assert_all_is_there(events: list[Logged], pids: list[int]) -> None:
    """Each worker was one writer, all tasks' points are there once, and only the main process ended the run."""
    assert_complete(events)
    for number in range(TASKS):
        assert points_of(events, f"task {number}") == [(step, float(step)) for step in range(100)]
    opened = [body.pid for body in bodies(events, WriterOpened)]
    assert len(opened) == len(set(opened)) == len(set(pids)) + 1, "the main process and each worker"
    assert set(pids) < set(opened)
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"]


def quick_and_slow(pools: dict[str, str]) -> list[ParameterSet]:
    """Return the names of pools as parameters."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in pools]


@pytest.mark.parametrize("pool", quick_and_slow(POOLS))
def test_every_worker_is_a_writer_and_delivers(broker: BrokerProcess, tmp_path: Path, pool: str) -> None:
    run_id, pids, errors = trained(broker, tmp_path, POOLS[pool])
    assert "runtide sync" not in errors
    assert list((tmp_path / "spool").glob("*/*/writer.json")) == []
    assert_all_is_there(read_log(broker.address, run_id), pids)


@pytest.mark.parametrize("pool", quick_and_slow(TERMINATED))
def test_workers_that_are_terminated_leave_what_the_main_process_tells_of(
    broker: BrokerProcess, tmp_path: Path, pool: str
) -> None:
    """``multiprocessing.Pool`` ends its workers by SIGTERM, in its ``with`` block and joblib's, before they could deliver."""
    told = pool != WAITS_FOR_THEIR_ENDS
    for attempt in range(1 if told else ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        run_id, pids, errors = trained(broker, folder, TERMINATED[pool])
        spools = folder / "spool" / run_id
        dead = any(f" {count} of its writers on this machine died" in errors for count in range(1, len(set(pids)) + 1))
        told = told or (dead and f"runtide sync {spools}" in errors)
        assert sync([spools], KafkaSettings(bootstrap=broker.address)).complete
        assert_all_is_there(deduplicated(read_log(broker.address, run_id)), pids)
        if told:
            return
    pytest.fail(f"in {ATTEMPTS} trainings nobody told of a worker that died; the last said: {errors}")
