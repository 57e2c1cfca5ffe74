"""The trainer's memory while the broker is away: flat, however long; and all of it arrives once the broker is there.

A run logs 100,000 points a second to an address that takes connections and never answers, for ``RUNTIDE_BENCH_SECONDS``
(60; the issue's ten minutes are 600). Then a broker starts at that address, and the tests' own reader counts what is in
its log: every step, once, in order, with its value.
"""

import asyncio
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import RunEnded
from tests.integration.sdk_log import broker_with_topics, child, finished, stream_log

SECONDS = int(os.environ.get("RUNTIDE_BENCH_SECONDS", "60"))
RATE = 100_000
SAMPLE_S = 0.25
MIB = 2**20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * SECONDS + 600)]

TRAINER = """
import json, sys, time
import runtide

rate, seconds = int(sys.argv[1]), int(sys.argv[2])
run = runtide.start_run("away")
print(run.run_id, flush=True)
began, step, late = time.perf_counter(), 0, 0.0
for slice_ in range(100 * seconds):
    for step in range(step, step + rate // 100):
        run.log_metric("loss", step * 0.5, step=step)
    step += 1
    rest = began + (slice_ + 1) / 100 - time.perf_counter()
    late = max(late, -rest)
    if rest > 0:
        time.sleep(rest)
took = time.perf_counter() - began
print(json.dumps({"points": step, "took": took, "late": late}), flush=True)
began = time.perf_counter()
delivered = run.flush(timeout=3600)
print(json.dumps({"delivered": delivered, "drained": time.perf_counter() - began,
                  "dropped": run.writer.spool.dropped}), flush=True)
run.end()
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment: bytes that are its own, bytes of files that it has mapped, bytes of its spool on disk."""

    second: float
    own: int
    mapped: int
    disk: int


def sample(pid: int, spool: Path, began: float) -> Sample:
    """Look at a process and its spool."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Rss"))
    sizes = {name: int(kilobytes) * 1024 for name, kilobytes, _ in lines}
    return Sample(
        second=time.monotonic() - began,
        own=sizes["RssAnon:"],
        mapped=sizes["RssFile:"] + sizes["RssShmem:"],
        disk=size_of(spool),
    )


def size_of(spool: Path) -> int:
    """Return the bytes that a directory's files take, some of which may go meanwhile."""
    total = 0
    for directory, _, names in os.walk(spool):
        for name in names:
            try:
                total += (Path(directory) / name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


async def check_log(address: str, run_id: str, points: int) -> None:
    """Every step of the run is in the log once, in order, with its value; and the run has ended."""
    arrived, ends = 0, 0
    async for event in stream_log(address):
        if isinstance(event.body, MetricsLogged) and event.body.run_id == run_id:
            expected = np.arange(arrived, arrived + len(event.body.step))
            assert np.array_equal(event.body.step, expected), f"steps from {arrived} on"
            assert np.array_equal(event.body.value, expected * 0.5), f"values from {arrived} on"
            arrived += len(expected)
        ends += isinstance(event.body, RunEnded)
    assert (arrived, ends) == (points, 1)


def watched(process: "subprocess.Popen[str]", spool: Path, began: float) -> Iterator[Sample]:
    """Yield samples until the process writes a line or ends."""
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], SAMPLE_S)[0]:
        yield sample(process.pid, spool, began)


def test_memory_is_flat_while_the_broker_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = tmp_path / "spool"
    with broker_with_topics(tmp_path / "broker") as broker:
        broker.stop()
        with socket.create_server(("127.0.0.1", broker.port)):
            process = child(TRAINER, str(RATE), str(SECONDS), broker=broker.address, spool=spool)
            assert process.stdout is not None
            run_id = process.stdout.readline().strip()
            began = time.monotonic()
            away = list(watched(process, spool, began))
            logged = json.loads(process.stdout.readline())
        broker.start()
        back = list(watched(process, spool, began))
        returned, out, errors = finished(process)
        assert returned == 0, errors
        delivered = json.loads(out)
        asyncio.run(check_log(broker.address, run_id, logged["points"]))
    with capsys.disabled():
        print(table(away, back, logged, delivered))
    assert logged["points"] == RATE * SECONDS
    assert delivered["delivered"] and delivered["dropped"] == [0, 0]
    assert not list(spool.glob("*/*/writer.json")), "what was delivered is deleted"
    first, second = peak(away[: len(away) // 2]), peak(away[len(away) // 2 :])
    # What Python holds does not grow at all (tracemalloc, to the 0.1 MiB); pages that it gives back in parts do, a little.
    assert second < first + 16 * MIB, "the longer the broker is away, the more memory the trainer takes"
    assert peak(back) < first + 128 * MIB, (
        "what is on its way is bounded, and held four times at most: by us, by the client"
    )


def peak(samples: list[Sample]) -> int:
    """Return the most bytes of its own that the process had."""
    return max((one.own for one in samples), default=0)


def table(away: list[Sample], back: list[Sample], logged: dict[str, float], delivered: dict[str, float]) -> str:
    """Return what was measured, as Markdown."""
    points, drained = logged["points"], delivered["drained"]
    disk = max(one.disk for one in (*away, *back))
    rows = [one for index, one in enumerate(away) if index % max(1, len(away) // 10) == 0]
    lines = [
        f"\n\n{points:,} points at {points / logged['took']:,.0f} a second; at most {logged['late']:.2f} s late",
        "",
        "| second | own MiB | mapped MiB | spool MiB |",
        "| --- | --- | --- | --- |",
        *(f"| {s.second:.0f} | {s.own / MIB:.1f} | {s.mapped / MIB:.1f} | {s.disk / MIB:.1f} |" for s in rows),
        "",
        f"own memory, peak: {peak(away) / MIB:.1f} MiB while the broker was away, {peak(back) / MIB:.1f} MiB while it caught up",
        f"spool: {disk / MIB:.0f} MiB, {disk / points:.1f} bytes a point; dropped: {delivered['dropped']}",
        f"delivered in {drained:.1f} s, {points / drained:,.0f} points a second",
        f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
    ]
    return "\n".join(lines)
