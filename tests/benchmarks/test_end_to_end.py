"""From `log_metric` to a row in DuckDB: points per second and delay, over the whole stack on this machine.

Run with `make bench`. Figures are of one machine with everything on it: clients, broker, PostgreSQL and both projections.
"""

import json
import statistics
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.stack import RunningStack, eventually, running_stack

pytestmark = pytest.mark.slow

POINTS = 1_000_000
ROUNDS = 3

FIREHOSE = """
import json, sys, time
import runtide

points = int(sys.argv[1])
runtide.init(experiment="benchmark")
with runtide.start_run(name="firehose") as run:
    began = time.time()
    for step in range(points):
        run.log_metric("loss", step * 0.5, step=step)
    logged = time.time()
    run.flush(timeout=120)
    acknowledged = time.time()
print(json.dumps({"run_id": run.run_id, "began": began, "logged": logged, "acknowledged": acknowledged}))
"""

CALLS = """
import json, statistics, time
import runtide

runtide.init(experiment="benchmark")
def percentiles(samples):
    ordered = sorted(samples)
    return {"p50": ordered[len(ordered) // 2] / 1000, "p99": ordered[len(ordered) * 99 // 100] / 1000}
with runtide.start_run(name="calls") as run:
    clock, single, ten = time.perf_counter_ns, [], []
    metrics = {f"metric_{i}": float(i) for i in range(10)}
    for step in range(200_000):
        before = clock(); run.log_metric("loss", 0.5, step=step); single.append(clock() - before)
    for step in range(20_000):
        before = clock(); run.log_metrics(metrics, step=step); ten.append(clock() - before)
print(json.dumps({"log_metric": percentiles(single), "log_metrics_10": percentiles(ten)}))
"""

STEADY = """
import sys, time
import runtide

runtide.init(experiment="benchmark")
with runtide.start_run(name="steady") as run:
    print(run.run_id, flush=True)
    for step in range(int(sys.argv[1])):
        run.log_metric("at", time.time(), step=step)
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def quiet_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("bench") / "data") as stack:
        yield stack


def _result(stack: RunningStack, code: str, *arguments: str) -> dict[str, float]:
    process = stack.python(code, *arguments)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    result: dict[str, float] = json.loads(out)
    return result


def _rows(stack: RunningStack, run_id: object) -> int:
    found = stack.get(f"/runs/{run_id}")["run"]["metrics"].get("loss", {})
    return int(found.get("point_count", 0))


def test_idle_memory(quiet_stack: RunningStack) -> None:
    supervisor = psutil.Process(quiet_stack.process.pid)
    processes = [supervisor, *supervisor.children(recursive=True)]
    names = {pid: name for name, pid in quiet_stack.services().items()}
    print("\nidle memory (proportional set size):")
    total = 0
    for process in processes:
        size = process.memory_full_info().pss
        total += size
        print(f"  {names.get(process.pid, process.name()):<20} {size / 2**20:7.1f} MiB")
    print(f"  {'all':<20} {total / 2**20:7.1f} MiB")
    assert total < 1024 * 2**20


def test_cost_of_a_call(quiet_stack: RunningStack) -> None:
    print(f"\nmicroseconds per call: {_result(quiet_stack, CALLS)}")


def test_points_per_second_from_log_metric_to_duckdb(quiet_stack: RunningStack) -> None:
    rates: dict[str, list[float]] = {"call": [], "acknowledged": [], "duckdb": [], "postgres": []}
    for _ in range(ROUNDS):
        result = _result(quiet_stack, FIREHOSE, str(POINTS))
        run_id, began = result["run_id"], result["began"]
        eventually(lambda run_id=run_id: _in_duckdb(quiet_stack, run_id) == POINTS, "all points in DuckDB", 120)  # type: ignore[misc]
        in_duckdb = time.time()
        eventually(lambda run_id=run_id: _rows(quiet_stack, run_id) == POINTS, "all points in PostgreSQL", 120)  # type: ignore[misc]
        rates["call"].append(POINTS / (result["logged"] - began))
        rates["acknowledged"].append(POINTS / (result["acknowledged"] - began))
        rates["duckdb"].append(POINTS / (in_duckdb - began))
        rates["postgres"].append(POINTS / (time.time() - began))
    print(f"\n{POINTS:,} points by one process, median points/s of {ROUNDS} rounds from the first call:")
    for name, values in rates.items():
        print(f"  until {name:<13} {statistics.median(values):12,.0f}")


def _in_duckdb(stack: RunningStack, run_id: object) -> int:
    history = stack.get(f"/runs/{run_id}/metrics/loss", points=10)
    return int(history["total"])


def test_delay_until_visible(quiet_stack: RunningStack) -> None:
    steps = 400
    process = quiet_stack.python(STEADY, str(steps))
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    delays: list[float] = []
    while process.poll() is None:
        seen = quiet_stack.get(f"/runs/{run_id}") if delays or _known(quiet_stack, run_id) else None
        metric = seen and seen["run"]["metrics"].get("at")
        if metric:
            delays.append((time.time() - float(metric["last_value"])) * 1000)
        time.sleep(0.02)
    delays.sort()
    print(
        f"\nage of the newest visible point at 100 points/s: p50 {delays[len(delays) // 2]:.0f} ms, p99 {delays[len(delays) * 99 // 100]:.0f} ms"
    )


def _known(stack: RunningStack, run_id: str) -> bool:
    return bool(stack.postgres("SELECT 1 FROM runs WHERE run_id = $1", run_id))
