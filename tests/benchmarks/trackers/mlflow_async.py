"""MLflow with ``synchronous=False``, into SQLite, without a server."""

import sqlite3
from functools import partial
from pathlib import Path

from tests.benchmarks.trackers import Started, log_folder


def started(folder: Path) -> Started:
    """Start a run in a database below the folder."""
    import mlflow

    log_folder(folder).mkdir(parents=True)
    mlflow.set_tracking_uri(f"sqlite:///{log_folder(folder)}/mlflow.db")
    mlflow.create_experiment("benchmark", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("benchmark")
    mlflow.start_run()

    def close() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()

    return Started(partial(mlflow.log_metric, synchronous=False), partial(mlflow.log_metrics, synchronous=False), close)


def arrived(folder: Path) -> int:
    """Return how many calls are in its database."""
    with sqlite3.connect(log_folder(folder) / "mlflow.db") as database:
        return int(database.execute("SELECT count(DISTINCT step) FROM metrics").fetchone()[0])
