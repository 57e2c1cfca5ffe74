"""A job without a broker keeps everything; `runtide sync` ships it, any number of times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.stack import RunningStack, eventually

OFFLINE = """
import runtide
runtide.init(experiment="offline")
with runtide.start_run(name="offline") as run:
    run.log_params({"a": 1})
    for step in range(1000):
        run.log_metric("loss", step * 0.25, step=step)
print(run.run_id)
"""


def test_an_offline_run_is_shipped_later_and_only_once(stack: RunningStack, tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
    environment = {**clean, "RUNTIDE_DATA": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=170, check=True
    )
    run_id = done.stdout.strip()
    assert "runtide sync" in done.stderr, "it says what is left and the command that sends it"
    spool = tmp_path / "spool"
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(spool), str(copy)], check=True)

    sent = stack.runtide("sync", str(spool))
    assert run_id[:12] in sent.stdout
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", "complete after sync")
    stack.runtide("sync", str(copy))
    assert "Nothing to send" in stack.runtide("sync", str(spool)).stdout

    def points() -> int:
        (row,) = stack.sql(f"SELECT count(*) AS n FROM metrics WHERE run_id = '{run_id}'")
        return int(row["n"])

    eventually(lambda: points() == 1000, "every point once")
    run = stack.get(f"/runs/{run_id}")["run"]
    assert run["info"]["status"] == "FINISHED"
    assert run["metrics"]["loss"]["point_count"] == 1000


LIVING = """
import sys
import runtide
runtide.init(experiment="offline")
with runtide.start_run(name="living") as run:
    print(run.run_id, flush=True)
    for line in sys.stdin:
        for step in range(int(line), int(line) + 500):
            run.log_metric("loss", step * 0.25, step=step)
"""


@pytest.mark.slow
def test_an_offline_run_is_seen_running_while_it_is_shipped_again_and_again(
    stack: RunningStack, tmp_path: Path
) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
    training = subprocess.Popen(
        [sys.executable, "-c", LIVING],
        env={**clean, "RUNTIDE_DATA": str(tmp_path), "HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert training.stdin is not None and training.stdout is not None
    run_id = training.stdout.readline().strip()

    def points() -> int:
        (row,) = stack.sql(f"SELECT count(*) AS n FROM metrics WHERE run_id = '{run_id}'")
        return int(row["n"])

    for start in (0, 500):
        training.stdin.write(f"{start}\n")
        training.stdin.flush()
        eventually(
            lambda: "followed" in stack.runtide("sync", str(tmp_path / "spool")).stdout and points() == start + 500,  # noqa: B023
            "what is logged arrives while it goes on",
        )
        shown = f"/runs/{run_id}"
        eventually(lambda: stack.get(shown)["run"]["info"]["status"] == "RUNNING", "the run, in PostgreSQL too")  # noqa: B023
    training.stdin.close()
    assert training.wait(60) == 0
    assert "sent" in stack.runtide("sync", str(tmp_path / "spool")).stdout
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", "complete after its end")
    assert stack.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED"
    eventually(lambda: points() == 1000, "every point once")


def test_sync_says_what_is_wrong(stack: RunningStack, tmp_path: Path) -> None:
    done = stack.runtide("sync", str(tmp_path / "nowhere"), check=False)
    assert done.returncode == 2
    assert "No such directory" in done.stderr
