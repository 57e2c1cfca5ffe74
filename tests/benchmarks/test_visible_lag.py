"""How long after a call a point is seen by a query, while its run logs 1,000 to 100,000 points a second.

Run with `make bench`. The run logs a probe twenty times a second, whose value is the time of the call; a reader asks
PostgreSQL's summaries and DuckDB's history, through the gateway, which probe is the newest. A probe counts as seen when the
first answer that has it, or a later one, is back: so a figure holds the query too.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.stack import RunningStack, eventually, running_stack
from tests.benchmarks.http_load import Connection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 15
PROBES_PER_S = 20

TRAINING = f"""
import sys, time
import runtide

rate = int(sys.argv[1])
runtide.init(experiment="lag")
names = [f"metric_{{number}}" for number in range(10)]
with runtide.start_run() as run:
    print(run.run_id, flush=True)
    began, slices, logged = time.perf_counter(), 0, 0
    while slices < {SECONDS} * 100:
        if slices % {100 // PROBES_PER_S} == 0:
            print(repr(time.time()), flush=True)
            run.log_metric("probe", time.time(), step=slices // {100 // PROBES_PER_S})
        slices += 1
        while logged < slices * rate // 100:
            run.log_metrics(dict.fromkeys(names, 0.5), step=logged // 10)
            logged += 10
        rest = began + slices / 100 - time.perf_counter()
        if rest > 0:
            time.sleep(rest)
    print("behind", time.perf_counter() - began - {SECONDS}, flush=True)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("lag") / "data") as running:
        yield running


Question = Callable[[Connection], int]


def asked(connection: Connection, path: str) -> dict[str, Any]:
    """Return the gateway's answer over a connection that is kept: the client is not what is measured."""
    request = f"GET /api/runtide/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    found: dict[str, Any] = json.loads(connection.call(request).partition(b"\r\n\r\n")[2])
    return found


def in_postgres(run_id: str) -> Question:
    """Return the question how many probes PostgreSQL has."""

    def count(connection: Connection) -> int:
        metrics = asked(connection, f"/runs/{run_id}")["run"]["metrics"]
        return int(metrics.get("probe", {}).get("point_count", 0))

    return count


def in_duckdb(run_id: str) -> Question:
    """Return the question how many probes DuckDB has."""
    return lambda connection: int(asked(connection, f"/runs/{run_id}/metrics/probe?points=1")["total"])


class Watch(threading.Thread):
    """Asks again and again how many probes there are, and keeps when it first heard of each."""

    def __init__(self, address: str, count: Question) -> None:
        super().__init__()
        self.seen: list[float] = []
        self._connection = Connection(address)
        self._count = count

    def run(self) -> None:
        """Ask until all are there."""
        while len(self.seen) < SECONDS * PROBES_PER_S:
            found = self._count(self._connection)
            self.seen += [time.time()] * (found - len(self.seen))
            time.sleep(0.003)


@pytest.mark.parametrize("rate", [1_000, 10_000, 100_000])
def test_time_from_the_call_to_the_answer_of_a_query(stack: RunningStack, rate: int) -> None:
    training = stack.python(TRAINING, str(rate))
    assert training.stdout is not None
    run_id = training.stdout.readline().strip()
    eventually(lambda: bool(stack.get(f"/runs/{run_id}")), "the run is known")
    watches = {
        "PostgreSQL": Watch(stack.file.gateway, in_postgres(run_id)),
        "DuckDB": Watch(stack.file.gateway, in_duckdb(run_id)),
    }
    for watch in watches.values():
        watch.start()
    *called, behind = training.stdout.read().strip().splitlines()
    assert training.wait() == 0
    print(f"\n{rate:,} points/s for {SECONDS} s ({behind} s), from the call to the answer of a query:")
    for name, watch in watches.items():
        watch.join(timeout=60)
        assert not watch.is_alive(), f"{name} has {len(watch.seen)} of {len(called)} probes"
        pairs = zip(watch.seen, map(float, called), strict=True)
        # What the very first answer had was there before anybody asked.
        delays = sorted((seen - call) * 1000 for seen, call in pairs if seen > watch.seen[0])
        print(f"  {name:<11} p50 {delays[len(delays) // 2]:.0f} ms, p99 {delays[len(delays) * 99 // 100]:.0f} ms")
