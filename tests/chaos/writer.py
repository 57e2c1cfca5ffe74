"""``python -m tests.chaos.writer CLAIMS SEED SECONDS dies|ends``: one training that logs, and notes what was logged.

A line goes to CLAIMS after each call has returned: "run ID", then "m STEP" and "p STEP". One that ``dies`` ends itself with
SIGKILL after its time, in the middle of its work.
"""

import math
import os
import signal
import sys
import time
from random import Random

import runtide

KEYS = ("loss", "acc", "lr", "norm", "odd")


def value_of(key: str, step: int) -> float:
    """Return what is logged of a metric at a step; one of them is NaN or infinite now and then."""
    if key == "odd" and step % 3 < 2:
        return (math.nan, -math.inf)[step % 3]
    return (step * 7919 % 1000) / 8 - 50 + KEYS.index(key)


def main() -> None:
    """Log until the time is up."""
    path, seed, seconds, end = sys.argv[1:]
    claims, random = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), Random(int(seed))
    runtide.init(experiment="chaos")
    run = runtide.start_run(f"writer {seed}", tags={"seed": seed, "end": end})
    os.write(claims, f"run {run.run_id}\n".encode())
    step, over = 0, time.monotonic() + float(seconds)  # a start takes long where many start at once
    while time.monotonic() < over:
        run.log_metrics({key: value_of(key, step) for key in KEYS}, step=step)
        os.write(claims, f"m {step}\n".encode())
        if step % 20 == 0:
            run.log_params({f"p{step}": step})
            run.set_tags({"progress": str(step)})
            os.write(claims, f"p {step}\n".encode())
        step += 1
        time.sleep(random.uniform(0, 0.08))
    if end == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    run.end()


if __name__ == "__main__":
    main()
