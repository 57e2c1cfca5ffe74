"""`runtide delete` returns once a run is hidden, and says so when it cannot know that it is."""

import os
import signal
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from runtide_deploy.cli.main import app
from tests.acceptance.stack import RunningStack, eventually

ONE_RUN = """
import runtide
with runtide.start_run(name="to be hidden") as run:
    run.log_metric("loss", 1.0)
print(run.run_id)
"""


def a_run(stack: RunningStack) -> str:
    """Return the id of a run that has ended."""
    out, errors = stack.python(ONE_RUN).communicate(timeout=170)
    run_id = out.strip()
    eventually(lambda: stack.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED", errors or "the run's end")
    return run_id


def listed(stack: RunningStack, run_id: str) -> bool:
    """Whether lists show a run."""
    return any(run["info"]["run_id"] == run_id for run in stack.get("/runs", page_size=1000)["runs"])


def test_a_run_is_hidden_and_shown_in_the_stack_that_is_named(stack: RunningStack, tmp_path: Path) -> None:
    run_id, other = a_run(stack), RunningStack(tmp_path, stack.process, stack.file)
    other.runtide("delete", run_id[:12], "--data", str(stack.data))
    assert not listed(stack, run_id)
    page = httpx.get(f"{stack.file.gateway}/runs/{run_id}", timeout=60).text
    here = ("--gateway", stack.file.gateway)  # in this process: three more would take a busy machine a minute
    for told in (page, *(CliRunner().invoke(app, [name, run_id, *here]).output for name in ("show", "log", "check"))):
        assert "The run was deleted at" in told
    other.runtide("delete", "--undo", run_id[:12], "--data", str(stack.data))
    assert listed(stack, run_id)


@pytest.mark.gate
def test_who_cannot_know_that_a_run_is_hidden_says_so(stack: RunningStack) -> None:
    run_id, projector = a_run(stack), stack.services()["projector-postgres"]
    os.kill(projector, signal.SIGSTOP)
    try:
        done = stack.runtide("delete", run_id, check=False)
    finally:
        os.kill(projector, signal.SIGCONT)
    assert done.returncode == 4, done.stdout
    assert f"run {run_id} is deleted, and the state store has not read so" in done.stderr.replace("\n", " ")
    eventually(lambda: not listed(stack, run_id), "the run to be hidden")
