"""MLflow's command line: ``mlflow experiments``, ``runs``, ``artifacts``, ``models``."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
from click.testing import CliRunner
from mlflow.cli import cli

from tests.acceptance.mlflow_scenarios.expectations import MAJOR, needs, needs_client, unique


def _mlflow(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, f"mlflow {' '.join(arguments)}: {done.output} {done.exception!r}"
    return str(done.output)


def experiments_by_command() -> None:
    name = unique("command")
    assert name in _mlflow("experiments", "create", "--experiment-name", name)
    found = mlflow.get_experiment_by_name(name)
    assert found is not None
    number = found.experiment_id
    assert name in _mlflow("experiments", "search")
    _mlflow("experiments", "rename", "--experiment-id", number, "--new-name", f"{name}-new")
    assert mlflow.get_experiment(number).name == f"{name}-new"
    _mlflow("experiments", "delete", "--experiment-id", number)
    assert f"{name}-new" in _mlflow("experiments", "search", "--view", "deleted_only")
    _mlflow("experiments", "restore", "--experiment-id", number)
    assert mlflow.get_experiment(number).lifecycle_stage == "active"


def runs_by_command() -> None:
    experiment = mlflow.set_experiment(unique("runs by command"))
    with mlflow.start_run(run_name="by command") as run:
        mlflow.log_param("p", 1)
        mlflow.log_metric("m", 0.5)
    run_id = run.info.run_id
    assert run_id in _mlflow("runs", "list", "--experiment-id", experiment.experiment_id)
    told = json.loads(_mlflow("runs", "describe", "--run-id", run_id))
    assert (told["data"]["params"], told["data"]["metrics"]) == ({"p": "1"}, {"m": 0.5})
    _mlflow("runs", "delete", "--run-id", run_id)
    assert run_id not in _mlflow("runs", "list", "--experiment-id", experiment.experiment_id)
    _mlflow("runs", "restore", "--run-id", run_id)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "runs.csv"
        _mlflow("experiments", "csv", "--experiment-id", experiment.experiment_id, "--filename", str(file))
        assert run_id in file.read_text()


def artifacts_by_command() -> None:
    mlflow.set_experiment(unique("artifacts by command"))
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        run_id, source = run.info.run_id, Path(folder) / "source"
        (source / "below").mkdir(parents=True)
        (source / "a.txt").write_text("one")
        (source / "below" / "b.txt").write_text("two")
        _mlflow("artifacts", "log-artifact", "--run-id", run_id, "--local-file", str(source / "a.txt"))
        _mlflow("artifacts", "log-artifacts", "--run-id", run_id, "--local-dir", str(source), "--artifact-path", "tree")
        listed = json.loads(_mlflow("artifacts", "list", "--run-id", run_id))
        assert sorted((one["path"], one["is_dir"]) for one in listed) == [("a.txt", False), ("tree", True)]
        target = Path(folder) / "target"
        target.mkdir()
        _mlflow("artifacts", "download", "--run-id", run_id, "--artifact-path", "tree", "--dst-path", str(target))
        assert (target / "tree" / "below" / "b.txt").read_text() == "two"


def what_is_not_there_ends_with_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "runs", "describe", "--run-id", "0" * 32],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "RESOURCE_DOES_NOT_EXIST" in done.stderr, done.stderr[-2000:]


def a_registered_model_predicts_by_command() -> None:
    needs("sklearn", "pandas", "flask")
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    name = unique("predicting")
    mlflow.set_experiment(unique("predicting"))
    model = DecisionTreeClassifier(random_state=1).fit(*load_iris(return_X_y=True))
    more = {"name": "model", "serialization_format": "cloudpickle"} if MAJOR > 2 else {"artifact_path": "model"}
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, registered_model_name=name, pip_requirements=["scikit-learn"], **more)
    with tempfile.TemporaryDirectory() as folder:
        given, told = Path(folder) / "in.json", Path(folder) / "out.json"
        given.write_text(json.dumps({"inputs": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}))
        where = ("--input-path", str(given), "--output-path", str(told), "--content-type", "json")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "mlflow",
                "models",
                "predict",
                "-m",
                f"models:/{name}/1",
                "--env-manager",
                "local",
                *where,
            ],
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
        assert json.loads(told.read_text())["predictions"] == [0, 2]


def a_registered_model_is_served_by_command() -> None:
    needs_client(3)  # the scoring server of 2.22 does not start with the FastAPI that pip installs beside it
    needs("sklearn", "pandas", "uvicorn")
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    name = unique("served")
    mlflow.set_experiment(unique("served"))
    model = DecisionTreeClassifier(random_state=1).fit(*load_iris(return_X_y=True))
    more = {"name": "model", "serialization_format": "cloudpickle"}
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, registered_model_name=name, pip_requirements=["scikit-learn"], **more)
    mlflow.MlflowClient().set_registered_model_alias(name, "live", "1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        f"models:/{name}@live",
        "--env-manager",
        "local",
    ]
    activated = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        env=activated,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert _predictions(server, port, [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]) == [0, 2]
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _predictions(server: "subprocess.Popen[bytes]", port: int, rows: list[list[float]]) -> Any:
    """Ask a scoring server, once it answers."""
    body = json.dumps({"inputs": rows}).encode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}, method="POST"
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return json.loads(answer.read())["predictions"]
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.2)
    raise AssertionError(f"the scoring server did not answer (it ended with {server.poll()})")


def traces_are_asked_for_by_command() -> None:
    """What is not kept is said in words, and not tried again for minutes; a server that keeps traces finds none."""
    needs_client(3)
    needs("mlflow.genai")
    number = mlflow.create_experiment(unique("traces by command"))
    done = CliRunner().invoke(cli, ["traces", "search", "--experiment-id", number])
    assert done.exit_code == 0 or "Traces and assessments are not kept" in str(done.exception), repr(done.exception)
