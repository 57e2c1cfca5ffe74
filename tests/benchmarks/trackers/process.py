"""The process of one measurement: ``python -m tests.benchmarks.trackers.process NAME FOLDER CALLS METRICS [kill]``.

It writes its figures to a file, since trackers talk on standard output.
"""

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter, perf_counter_ns

from tests.benchmarks.trackers import TRACKERS, Started

RESULT = "figures.json"
WARM_UP = 100


def measured(run: Started, calls: int, metrics: int) -> dict[str, float]:
    """Log in a tight loop, and close."""
    names = [f"metric_{number}" for number in range(metrics)]
    samples, steps = [0] * calls, range(WARM_UP, WARM_UP + calls)
    clock = perf_counter_ns
    log_one, log_many, key = run.log_one, run.log_many, names[0]
    for step in range(WARM_UP):
        log_one(key, 0.5, step) if metrics == 1 else log_many(dict.fromkeys(names, 0.5), step)
    began = perf_counter()
    if metrics == 1:
        for step in steps:
            before = clock()
            log_one(key, 0.5, step)
            samples[step - WARM_UP] = clock() - before
    else:
        values = dict.fromkeys(names, 0.5)
        for step in steps:
            before = clock()
            log_many(values, step)
            samples[step - WARM_UP] = clock() - before
    logged = perf_counter()
    run.close()
    closed = perf_counter()
    samples.sort()
    return {
        "p50 µs": samples[calls // 2] / 1000,
        "p99 µs": samples[calls * 99 // 100] / 1000,
        "calls/s": calls / (logged - began),
        "points/s, closed": calls * metrics / (closed - began),
    }


def killed(run: Started, calls: int) -> None:
    """Log, and be killed as soon as the last call has returned."""
    for step in range(calls):
        run.log_one("loss", step * 0.5, step)
    os.kill(os.getpid(), signal.SIGKILL)


def main(name: str, folder: Path, calls: int, metrics: int, kill: bool) -> None:
    """Run one measurement."""
    run: Started = import_module(f"tests.benchmarks.trackers.{TRACKERS[name].module}").started(folder)
    if kill:
        killed(run, calls)
    (folder / RESULT).write_text(json.dumps(measured(run, calls, metrics)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:] == ["kill"])
