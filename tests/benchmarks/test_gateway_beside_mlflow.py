"""The gateway on a standalone stack and a genuine ``mlflow server`` on PostgreSQL, in turns in one run: latency and throughput.

``RUNTIDE_TEST_MLFLOW_PYTHON`` names an interpreter with the full mlflow and psycopg2-binary (``make test-mlflow`` makes one).
Both servers are up all the time, as they come: PostgreSQL with the settings of our stack for either, MLflow with its four workers (``RUNTIDE_BENCHMARK_MLFLOW_WORKERS``).
The client is one that hardly costs anything (``http_load.py``), and then MLflow's own.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from runtide_deploy.standalone.postgres import ADMINISTRATOR, PostgresCluster
from tests.acceptance.mlflow_servers import MLFLOW3, environment, genuine_server, interpreter
from tests.acceptance.stack import running_stack
from tests.benchmarks.comparison_table import Rounds, ratios, render
from tests.postgres import free_port, running

WORKERS = os.environ.get("RUNTIDE_BENCHMARK_MLFLOW_WORKERS", "4")
ROUNDS = int(os.environ.get("RUNTIDE_BENCHMARK_ROUNDS", "3"))
OURS, GENUINE = "Runtide", "MLflow"
REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

MEASURE = """
import json, statistics, sys, time
import mlflow
from mlflow.entities import Metric

calls = int(sys.argv[1])
client = mlflow.MlflowClient()
experiment = client.create_experiment(f"client {time.time_ns()}")
run_id = client.create_run(experiment).info.run_id

def timed(call, count=calls):
    took = []
    for number in range(count + 10):
        began = time.perf_counter_ns()
        call(number)
        took.append((time.perf_counter_ns() - began) / 1e6)
    return statistics.median(took[10:])

def batch(number):
    return [Metric(f"b{key}", 0.5, 1, number * 10 + step) for key in range(10) for step in range(10)]

print(json.dumps({
    "create_run": timed(lambda number: client.create_run(experiment)),
    "log_metric": timed(lambda step: client.log_metric(run_id, "m", 0.5, step=step)),
    "log_param": timed(lambda number: client.log_param(run_id, f"p{number}", 1)),
    "log_batch of 100": timed(lambda number: client.log_batch(run_id, batch(number))),
    "get_run": timed(lambda number: client.get_run(run_id)),
    "search_runs": timed(lambda number: client.search_runs([experiment], "metrics.m > 0"), calls // 3),
}))
"""


@contextmanager
def mlflow_on_postgres(folder: Path) -> Iterator[str]:
    """Run a genuine server on a PostgreSQL of its own, with our stack's settings; yield its address."""
    cluster = PostgresCluster(folder / "postgres", free_port())
    cluster.initialise()
    with running(cluster):
        _wait_and_open(cluster)
        store = f"postgresql+psycopg2{cluster.dsn().removeprefix('postgresql')}"
        with genuine_server(folder / "server", store, "--workers", WORKERS) as address:
            yield address


def _wait_and_open(cluster: PostgresCluster) -> None:
    async def ready() -> None:
        await cluster.wait_ready(60)
        # MLflow makes its tables in the schema that everybody has.
        connection = await asyncpg.connect(cluster.dsn(ADMINISTRATOR), ssl=False)
        await connection.execute("GRANT ALL ON SCHEMA public TO PUBLIC")
        await connection.close()

    asyncio.run(ready())


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    folder = tmp_path_factory.mktemp("beside")
    interpreter(MLFLOW3)
    with running_stack(folder / "stack") as stack, mlflow_on_postgres(folder / "mlflow") as genuine:
        yield {OURS: stack.file.gateway, GENUINE: genuine}


def figures_of(command: list[str], folder: Path, **variables: str) -> dict[str, float]:
    """Run a measuring process and return what it found."""
    done = subprocess.run(
        command,
        env=environment(folder, **variables),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def in_turns(servers: Mapping[str, str], measure: Callable[[str], Mapping[str, float]]) -> Rounds:
    """Measure each server in each round, one after the other."""
    rounds: dict[str, list[Mapping[str, float]]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, address in servers.items():
            rounds[name].append(measure(address))
    return rounds


def printed(title: str, rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    """Print past pytest."""
    with capsys.disabled():
        load = f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(f"\n\n{title}, medians of {ROUNDS} rounds; {load}\n\n{render(rounds, OURS)}")


def test_calls_beside_a_genuine_server(
    servers: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.http_load"]
    tuned = {key: value for key, value in os.environ.items() if key.startswith("RUNTIDE_BENCHMARK_")}
    rounds = in_turns(servers, lambda address: figures_of([*command, address], tmp_path, **tuned))
    printed("A light client; calls/s of 8 clients at once", rounds, capsys)
    for figure in rounds[OURS][0]:
        ratio = ratios(rounds, figure, OURS, GENUINE)
        if figure.endswith("p50 ms"):
            assert ratio < 1, figure
        elif figure.endswith("calls/s"):
            assert ratio > 2, figure


def test_mlflows_own_client_beside_a_genuine_server(
    servers: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [interpreter(MLFLOW3), "-W", "ignore", "-c", MEASURE, os.environ.get("RUNTIDE_BENCHMARK_CALLS", "100")]
    rounds = in_turns(servers, lambda address: figures_of(command, tmp_path, MLFLOW_TRACKING_URI=address))
    printed("MLflow's client, p50 ms", rounds, capsys)
    for figure in rounds[OURS][0]:
        assert ratios(rounds, figure, OURS, GENUINE) < 1.2, figure
