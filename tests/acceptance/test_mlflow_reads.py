"""Reads through MLflow of runs that several processes write to, right after the writing, against a running stack."""

import json
from pathlib import Path

import pytest

from tests.acceptance.stack import RunningStack

pytestmark = pytest.mark.slow

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_TRACKING_URI": "runtide://"}

OWNER = """
import json, pathlib, subprocess, sys, time
import mlflow
client = mlflow.MlflowClient()
told = {}
mlflow.set_experiment("mlflow-reads")
with mlflow.start_run() as run:
    run_id, experiment_id = run.info.run_id, run.info.experiment_id
    for step in range(4000):
        mlflow.log_metric("loss", step * 0.5, step=step)
    told["points"] = [point.step for point in client.get_metric_history(run_id, "loss")] == list(range(4000))
    told["found"] = [one.info.run_id for one in client.search_runs([experiment_id], "metrics.loss >= 1999.5")]
    mlflow.set_tag("who", "owner")
    told["own"] = client.get_run(run_id).data.tags["who"]
    subprocess.run([sys.executable, sys.argv[1], run_id], check=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = client.get_run(run_id)
        if seen.info.status == "FAILED" and seen.data.tags["who"] == "guest":
            break
        time.sleep(0.1)
    told["status"], told["who"], told["loss"] = seen.info.status, seen.data.tags["who"], seen.data.metrics["loss"]
    told["guests"] = [point.value for point in client.get_metric_history(run_id, "loss")][-1]
    mlflow.set_tag("who", "owner again")
    told["again"] = client.get_run(run_id).data.tags["who"]
told["end"] = client.get_run(run_id).info.status
print("TOLD" + json.dumps(told))
"""

GUEST = """
import sys
import mlflow
client, run_id = mlflow.MlflowClient(), sys.argv[1]
client.set_tag(run_id, "who", "guest")
client.log_metric(run_id, "loss", -1.0, step=5000)
client.set_terminated(run_id, "FAILED")
"""


def test_what_was_just_written_is_read_and_what_others_write_is_seen(stack: RunningStack, tmp_path: Path) -> None:
    guest = tmp_path / "guest.py"
    guest.write_text(GUEST)
    process = stack.python(OWNER, str(guest), variables=QUIET)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    told = json.loads(out.partition("TOLD")[2])
    assert told["points"], errors
    assert len(told["found"]) == 1
    assert (told["own"], told["who"], told["again"]) == ("owner", "guest", "owner again")
    assert (told["status"], told["loss"], told["guests"]) == ("FAILED", -1.0, -1.0)
    assert told["end"] == "FINISHED"
    assert "known to be in the projections" not in errors
    assert "are not in this answer" not in errors
