"""A genuine ``mlflow server``, on SQLite and a folder of its own, by the interpreter that ``RUNTIDE_TEST_MLFLOW_PYTHON`` names.

That interpreter has the full ``mlflow`` (``mlflow-skinny``, which the tests' environment has, has no server).
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

VARIABLE = "RUNTIDE_TEST_MLFLOW_PYTHON"
PYTHON = os.environ.get(VARIABLE, "")
WITHOUT = f"no genuine MLflow: {VARIABLE} names no interpreter (python3 -m venv V && V/bin/pip install mlflow; then V/bin/python)"
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
_SERVER = (PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1")
_START_SECONDS = 120.0


@contextmanager
def genuine_server(folder: Path) -> Iterator[str]:
    """Start a server that keeps all it has below ``folder``; yield its address."""
    port = _free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RUNTIDE_", "MLFLOW_"))}
    stores = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts")
    with (folder / "server.log").open("w+") as log:
        process = subprocess.Popen(
            [*_SERVER, "--port", str(port), *stores],
            env=clean | _QUIET,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(process, port, folder / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"mlflow server did not come up (exit code {process.poll()}):\n{log.read_text()[-4000:]}")
