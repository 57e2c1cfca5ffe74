"""MLflow Projects: a folder that no git knows, run by the API and by ``mlflow run``, tracked by the server."""

# What may be None by its type is there, or the scenario fails, which is its point.
# mypy: disable-error-code="union-attr, attr-defined"

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from tests.acceptance.mlflow_scenarios.expectations import needs, unique

_PROJECT = """
name: small
entry_points:
  main:
    parameters:
      rate: {type: float, default: 0.5}
    command: "PYTHON train.py {rate}"
  failing:
    command: "PYTHON -c 'raise SystemExit(3)'"
"""
_TRAINING = """
import sys
import mlflow
with mlflow.start_run():
    mlflow.log_metric("twice", 2 * float(sys.argv[1]))
    mlflow.log_text("done", "out.txt")
"""


@contextmanager
def _project() -> Iterator[str]:
    needs("git", "mlflow.projects")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLproject").write_text(_PROJECT.replace("PYTHON", sys.executable))
        (Path(folder) / "train.py").write_text(_TRAINING)
        yield folder


def a_project_is_run() -> None:
    with _project() as folder:
        done = mlflow.projects.run(
            folder, parameters={"rate": 3}, env_manager="local", experiment_name=unique("project")
        )
    found = mlflow.get_run(done.run_id)
    assert (found.info.status, found.data.params, found.data.metrics) == ("FINISHED", {"rate": "3"}, {"twice": 6.0})
    tags = {key: found.data.tags[f"mlflow.{key}"] for key in ("source.type", "project.entryPoint", "project.backend")}
    assert tags == {"source.type": "PROJECT", "project.entryPoint": "main", "project.backend": "local"}
    assert mlflow.artifacts.load_text(f"{found.info.artifact_uri}/out.txt") == "done"


def a_project_that_fails_says_so() -> None:
    name = unique("failing project")
    with _project() as folder:
        try:
            mlflow.projects.run(folder, entry_point="failing", env_manager="local", experiment_name=name)
        except mlflow.exceptions.ExecutionException as error:
            told = str(error)
        else:
            raise AssertionError("a project that ended with 3 was taken for one that did not")
    (found,) = mlflow.search_runs(experiment_names=[name], output_format="list")
    assert found.info.status == "FAILED"
    assert found.info.run_id in told


def a_project_is_run_by_command() -> None:
    name = unique("project by command")
    with _project() as folder:
        command = [sys.executable, "-m", "mlflow", "run", folder, "-P", "rate=2", "--env-manager", "local"]
        done = subprocess.run(
            [*command, "--experiment-name", name, "--run-name", "commanded"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = mlflow.search_runs(experiment_names=[name], output_format="list")
    assert (found.info.run_name, found.info.status, found.data.metrics) == ("commanded", "FINISHED", {"twice": 4.0})
