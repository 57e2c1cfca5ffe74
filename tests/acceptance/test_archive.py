"""`runtide archive` on a running stack: killed, gone on with, verified, deleted from the log, and a rebuild from both."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.stack import RUNTIDE, RunningStack, eventually, running_stack

TRAINING = """
import runtide

runtide.init(experiment="archive")
for number in range(20):
    with runtide.start_run(name=f"run {number}") as run:
        for step in range(5_000):
            run.log_metric("loss", step * 0.5, step=step)
"""
POINTS = 100_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack of their own: they delete from its log."""
    with running_stack(tmp_path_factory.mktemp("archived") / "data") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_archived_deleted_and_rebuilt_with_kills_in_between(stack: RunningStack, tmp_path: Path) -> None:
    to, chance = str(tmp_path / "archive"), random.Random(5)
    assert stack.python(TRAINING).wait(120) == 0
    eventually(lambda: stack.sql("SELECT count(*) AS n FROM metrics") == [{"n": POINTS}], "points in DuckDB")
    eventually(
        lambda: stack.postgres("SELECT sum(point_count)::int AS n FROM metric_summaries") == [{"n": POINTS}], "PG"
    )
    command = [str(RUNTIDE), "archive", to, "--file-mib", "1"]
    for _ in range(5):
        killed = subprocess.Popen(command, env=stack.environment)
        time.sleep(chance.uniform(0.3, 2))
        killed.kill()
        killed.wait()
        verified = stack.runtide("archive", "verify", to, check=False)
        not_begun = verified.returncode == 2 and "begin one with" in verified.stderr
        assert verified.returncode == 0 or not_begun, verified.stderr
    refused = stack.runtide("archive", to, "--delete", check=False)
    assert "RUNTIDE_ARCHIVE is not set" in refused.stderr.replace("\n", " ")
    told = stack.runtide("archive", to, "--delete", "--without-archive-setting").stdout
    assert f"Set RUNTIDE_ARCHIVE={to}" in told.replace("\n", "")
    assert "is whole: the archive of the log" in stack.runtide("archive", "verify", to).stdout
    for store in ("postgres", "duckdb"):
        refused = stack.runtide("rebuild", store, check=False)
        assert refused.returncode == 3
        assert "cannot be rebuilt" in refused.stderr
        assert "0 differ" in stack.runtide("rebuild", store, "--archive", to).stderr
    assert stack.sql("SELECT count(*) AS n FROM metrics") == [{"n": POINTS}]
    assert stack.postgres("SELECT sum(point_count)::int AS n FROM metric_summaries") == [{"n": POINTS}]
    next((tmp_path / "archive").rglob("*.avro")).unlink()
    damaged = stack.runtide("archive", "verify", to, check=False)
    assert (damaged.returncode, "is missing" in damaged.stdout) == (3, True)


RUN = """
import runtide, sys

runtide.init(experiment="purge")
with runtide.start_run(name="to be purged") as run:
    run.log_params({"lr": 0.1})
    run.log_text("hello", "note.txt")
    for step in range(100):
        run.log_metric("loss", step * 0.5, step=step)
print(run.run_id)
"""

RESTORE = """
import mlflow, sys

try:
    mlflow.MlflowClient().restore_run(sys.argv[1])
except mlflow.MlflowException as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_deleted_purged_and_not_restored(stack: RunningStack) -> None:
    process = stack.python(RUN)
    assert process.wait(60) == 0
    assert process.stdout is not None
    run_id = process.stdout.read().split()[-1]
    eventually(lambda: stack.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED", "the run's end")
    folder = stack.data / "artifacts" / run_id
    assert folder.exists()
    stack.runtide("delete", run_id[:12])
    eventually(lambda: run_id[:12] not in stack.runtide("runs").stdout, "the run to be hidden")
    told = stack.runtide("purge", run_id, "--reason", "no use").stdout
    assert "purged 1 runs; removed 1 files" in told
    assert not folder.exists()
    shown = stack.runtide("show", run_id[:12]).stdout
    assert "was purged; this is its receipt" in shown
    assert "100 points" in shown
    refused = stack.runtide("delete", "--undo", run_id, check=False)
    assert refused.returncode == 2
    assert "was purged at" in refused.stderr
    assert "cannot be brought back" in refused.stderr.replace("\n", " ")
    eventually(
        lambda: stack.sql(f"SELECT count(*) AS n FROM metrics WHERE run_id = '{run_id}'") == [{"n": 0}], "DuckDB"
    )
    restoring = stack.python(RESTORE, run_id, variables={"MLFLOW_TRACKING_URI": "runtide://"})
    assert restoring.wait(60) == 0
    assert restoring.stdout is not None
    assert f"Run {run_id} was purged at" in restoring.stdout.read()
