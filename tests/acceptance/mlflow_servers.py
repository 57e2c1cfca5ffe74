"""Foreign MLflow: interpreters that have it, and a genuine server.

``RUNTIDE_TEST_MLFLOW_PYTHON`` names an interpreter with the full mlflow 3 (and scikit-learn, pandas; psycopg2-binary for
benchmarks), ``RUNTIDE_TEST_MLFLOW2_PYTHON`` one with mlflow 2. ``make test-mlflow`` makes both.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.postgres import free_port

MLFLOW3 = "RUNTIDE_TEST_MLFLOW_PYTHON"
MLFLOW2 = "RUNTIDE_TEST_MLFLOW2_PYTHON"
START_SECONDS = 300.0
# The processes that MLflow keeps for evaluations and the like: nothing here asks for them.
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# Else uvicorn ends workers that have not answered after five seconds, on a busy machine for ever.
PATIENT = ("--uvicorn-opts", "--timeout-worker-healthcheck=120")
# What is not there is not waited for, and an error of the server is seen at once instead of tried again for minutes.
CLIENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PYTHONWARNINGS": "ignore",
    "NO_COLOR": "1",
}


def interpreter(variable: str) -> str:
    """Return the interpreter that a variable names; skip the test when there is none."""
    named = os.environ.get(variable, "")
    if not named:
        version = "mlflow<3" if variable == MLFLOW2 else "mlflow>=3.1"
        pytest.skip(
            f"{variable} names no interpreter with '{version}': `make test-mlflow` makes one and runs these tests"
        )
    return str(Path(named).absolute())


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a foreign process that keeps what it writes below ``folder``."""
    tuned = ("RUNTIDE_", "MLFLOW_", "PYTHON")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(tuned)}
    return kept | CLIENT | {"HOME": str(folder), "MPLCONFIGDIR": str(folder / "matplotlib")} | variables


@contextmanager
def genuine_server(folder: Path, store: str = "", *options: str) -> Iterator[str]:
    """Run a genuine ``mlflow server`` that proxies artifacts; yield its address.

    ``store`` is SQLAlchemy's URI of its backend; empty: SQLite below ``folder``.
    """
    python, port = interpreter(MLFLOW3), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    backend = store or f"sqlite:///{folder}/mlflow.db"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *PATIENT, *options]
    command += ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("w+") as log:
        process = subprocess.Popen(
            command, env=environment(folder, **NO_JOBS), stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}", process, folder / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _wait_until_healthy(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", timeout=5, trust_env=False).text == "OK":
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"mlflow server did not come up:\n{log.read_text()[-4000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server and its workers, which are a session of their own."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # What ignored the signal has nothing to lose.
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait(20)
