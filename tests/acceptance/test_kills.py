"""SIGKILL of any process of the stack during training changes no final count."""

import json
import os
import signal
import time

import pytest

from tests.acceptance.stack import RunningStack, eventually

SERVICES = (
    "broker",
    "postgres",
    "registrar",
    "watcher",
    "projector-postgres",
    "projector-duckdb",
    "deployer",
    "webhooks",
    "gateway",
)
QUICKLY = ("projector-postgres",)  # those of `make test`
WORKERS = 3
STEPS = 3_000
KEYS = 4

TRAINING = f"""
import json, sys, time
import runtide

runtide.init(experiment=sys.argv[1])
with runtide.start_run(name=f"worker {{sys.argv[2]}}", tags={{"killed": sys.argv[1]}}) as run:
    print(run.run_id, flush=True)
    run.log_params({{"worker": sys.argv[2], "steps": {STEPS}}})
    for step in range({STEPS}):
        run.log_metrics({{f"metric_{{key}}": step * 0.5 + key for key in range({KEYS})}}, step=step)
        if step % 300 == 0:
            run.log_param(f"at_{{step}}", step)
            time.sleep(0.25)
"""


@pytest.mark.parametrize(
    "service", [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.gate) for name in SERVICES]
)
def test_killing_a_service_during_training_loses_and_doubles_nothing(stack: RunningStack, service: str) -> None:
    experiment = f"kill {service}"
    workers = [stack.python(TRAINING, experiment, str(number)) for number in range(WORKERS)]
    runs = [worker.stdout.readline().strip() for worker in workers if worker.stdout]
    time.sleep(0.8)  # somewhere in the middle of the training; any moment will do
    before = stack.services()[service]
    os.kill(before, signal.SIGKILL)
    for worker in workers:
        _, errors = worker.communicate(timeout=170)
        assert worker.returncode == 0, errors
    eventually(lambda: stack.services()[service] != before, f"{service} restarted")
    for run_id in runs:
        eventually(lambda run_id=run_id: _is_complete(stack, run_id), f"{run_id} complete")  # type: ignore[misc]
        assert _in_postgres(stack, run_id) == _expected()
        eventually(lambda run_id=run_id: _in_duckdb(stack, run_id) == _expected(), f"{run_id} in DuckDB")  # type: ignore[misc]
    eventually(lambda: _is_one_experiment(stack, runs), "the experiment's number, which the registrar gives")


def _is_complete(stack: RunningStack, run_id: str) -> bool:
    completeness = stack.get(f"/runs/{run_id}/completeness")
    return bool(completeness["state"] == "complete")


def _is_one_experiment(stack: RunningStack, runs: list[str]) -> bool:
    """Whether all runs are in one experiment that the catalogue knows: complete runs may still wait for its fact."""
    names = stack.postgres("SELECT DISTINCT experiment_id FROM runs WHERE run_id = ANY($1)", runs)
    return len(names) == 1 and names[0]["experiment_id"].isdigit()


def _expected() -> dict[str, object]:
    last = STEPS - 1
    metrics = {f"metric_{key}": [STEPS, last * 0.5 + key, float(key), last] for key in range(KEYS)}
    return {"params": 2 + STEPS // 300, "status": "FINISHED", "metrics": metrics}


def _in_postgres(stack: RunningStack, run_id: str) -> dict[str, object]:
    summaries = stack.postgres("SELECT * FROM metric_summaries WHERE run_id = $1", run_id)
    (params,) = stack.postgres("SELECT count(*) AS n FROM params WHERE run_id = $1", run_id)
    (run,) = stack.postgres("SELECT status FROM runs WHERE run_id = $1", run_id)
    metrics = {
        row["key"]: [row["point_count"], row["max_value"], row["min_value"], row["last_step"]] for row in summaries
    }
    return {"params": params["n"], "status": run["status"], "metrics": metrics}


def _in_duckdb(stack: RunningStack, run_id: str) -> dict[str, object]:
    points = stack.sql(
        "SELECT key, count(*) AS n, max(value) AS high, min(value) AS low, max(step) AS last, count(DISTINCT step) AS steps "
        f"FROM metrics WHERE run_id = '{run_id}' GROUP BY key"
    )
    assert all(row["n"] == row["steps"] for row in points), json.dumps(points)
    (params,) = stack.sql(f"SELECT count(*) AS n FROM params WHERE run_id = '{run_id}'")
    (run,) = stack.sql(f"SELECT status FROM runs WHERE run_id = '{run_id}'")
    metrics = {row["key"]: [row["n"], row["high"], row["low"], row["last"]] for row in points}
    return {"params": params["n"], "status": run["status"], "metrics": metrics}
