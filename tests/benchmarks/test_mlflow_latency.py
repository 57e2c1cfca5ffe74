"""What one call of MLflow's client costs with our store, beside MLflow's own stores in the same run.

`RUNTIDE_TEST_MLFLOW_PYTHON` names an interpreter with the full mlflow and runtide: then SQLite is measured too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.sdk_log import broker_with_topics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PYTHON = os.environ.get("RUNTIDE_TEST_MLFLOW_PYTHON") or sys.executable

MEASURE = """
import json, logging, sys, time
import mlflow
from mlflow.entities import Metric

uri, calls = sys.argv[1], int(sys.argv[2])
try:
    client = mlflow.MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0").info.run_id
except Exception as error:
    print("TOLD" + json.dumps({"missing": f"{type(error).__name__}: {error}"[:80]}))
    sys.exit()

def timed(call, count):
    for number in range(20):
        call(number)
    took = []
    for number in range(20, 20 + count):
        before = time.perf_counter_ns()
        call(number)
        took.append((time.perf_counter_ns() - before) / 1000)
    took.sort()
    return [round(took[len(took) // 2], 1), round(took[len(took) * 99 // 100], 1)]

batch = [Metric(f"b{number}", 0.5, 1, 1) for number in range(10)]
store = client._tracking_client.store
told = {
    "store": timed(lambda step: store.log_metric(run_id, Metric("s", 0.5, 1, step)), calls),
    "client": timed(lambda step: client.log_metric(run_id, "m", 0.5, step=step), calls),
    "batch": timed(lambda step: client.log_batch(run_id, metrics=batch), calls // 4),
    "params": timed(lambda step: client.log_param(run_id, f"p{step}", step), calls // 10),
    "async": timed(lambda step: client.log_metric(run_id, "a", 0.5, step=step, synchronous=False), calls // 4),
}
store.shut_down_async_logging()
before = time.perf_counter()
client.set_terminated(run_id)
told["end"] = [round((time.perf_counter() - before) * 1e6, 1)] * 2
print("TOLD" + json.dumps(told))
"""


def measured(uri: str, spool: Path, calls: int) -> dict[str, list[float]]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RUNTIDE_", "MLFLOW_"))}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true", "GIT_PYTHON_REFRESH": "quiet"}
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", MEASURE, uri, str(calls)],
        env=clean | quiet | {"RUNTIDE_SPOOL": str(spool), "RUNTIDE_DATA": str(spool), "RUNTIDE_EXIT_DEADLINE": "20"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert "TOLD" in done.stdout, done.stderr
    told: dict[str, list[float]] = json.loads(done.stdout.partition("TOLD")[2].splitlines()[0])
    return told


def test_calls_cost_microseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with broker_with_topics(tmp_path / "broker") as broker:
        rows = {
            "runtide": measured(f"runtide://{broker.address}", tmp_path / "spool", 20_000),
            "runtide, offline": measured("runtide:offline", tmp_path / "offline", 20_000),
            "MLflow, files": measured((tmp_path / "mlruns").as_uri(), tmp_path / "none", 1_000),
            "MLflow, SQLite": measured(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "none", 1_000),
        }
    with capsys.disabled():
        print(
            "\n| p50 / p99, µs | store.log_metric | client.log_metric | log_batch of 10 | log_param | asynchronous | end |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, told in rows.items():
            cells = [f"{told[key][0]:g} / {told[key][1]:g}" for key in told if key != "missing"]
            print(f"| {name} | {' | '.join(cells or [str(told['missing'])])} |")
    ours = rows["runtide"]
    for name in ("MLflow, files", "MLflow, SQLite"):
        if "missing" not in rows[name]:
            assert ours["client"][0] < rows[name]["client"][0] / 5
            assert ours["batch"][0] < rows[name]["batch"][0] / 5
