"""Trackio, on this machine."""

import os
import sqlite3
from pathlib import Path

from tests.benchmarks.trackers import Started, log_folder


def started(folder: Path) -> Started:
    """Start a run in a database below the folder."""
    os.environ["TRACKIO_DIR"] = str(log_folder(folder))
    import trackio

    run = trackio.init(project="benchmark", embed=False, auto_log_gpu=False, auto_log_cpu=False)
    return Started(lambda key, value, step: run.log({key: value}, step), run.log, trackio.finish)


def arrived(folder: Path) -> int:
    """Return how many calls are in its database or waiting beside it."""
    found = 0
    for path in log_folder(folder).rglob("*.db"):
        with sqlite3.connect(path) as database:
            found += database.execute("SELECT count(DISTINCT step) FROM metrics").fetchone()[0]
    return found
