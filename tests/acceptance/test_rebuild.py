"""`runtide rebuild` on a running stack, with a training job that logs and a gateway that is asked all the while."""

import threading
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from runtide_consumers.postgres.layout import LAYOUT_VERSION
from tests.acceptance.stack import RunningStack, eventually, running_stack

TRAINING = """
import time
import runtide

runtide.init(experiment="rebuild")
with runtide.start_run(name="through a rebuild") as run:
    print(run.run_id, flush=True)
    for step in range(1_000_000):
        run.log_metric("loss", step * 0.5, step=step)
        if step % 20 == 0:
            time.sleep(0.02)
"""

SHORT = """
import runtide

runtide.init(experiment="upgrade")
with runtide.start_run(name="before the upgrade") as run:
    for step in range(100):
        run.log_metric("loss", step * 0.5, step=step)
"""


def in_a_loop(stack: RunningStack, run_id: str, done: threading.Event, failures: list[str]) -> None:
    """Ask the gateway of both stores; nothing may fail, and nothing that was seen may be gone again."""
    seen = {"postgres": 0, "duckdb": 0}
    with httpx.Client(base_url=f"{stack.file.gateway}/api/runtide/v1", timeout=30) as client:
        while not done.is_set():
            found = {}
            for store, path in (("postgres", f"/runs/{run_id}"), ("duckdb", f"/runs/{run_id}/metrics/loss?points=10")):
                answer = client.get(path)
                if not answer.is_success:
                    failures.append(f"{store}: {answer.status_code} {answer.text}")
                    continue
                found[store] = points_in(answer.json())
            failures.extend(
                f"{store}: {count} points after {seen[store]}" for store, count in found.items() if count < seen[store]
            )
            seen |= found


def points_in(answer: Any) -> int:
    """Return how many points an answer of either store speaks of."""
    return int(answer["total"] if "total" in answer else answer["run"]["metrics"].get("loss", {}).get("point_count", 0))


@pytest.mark.slow
def test_both_stores_are_rebuilt_and_rolled_back_while_training_and_reading_go_on(stack: RunningStack) -> None:
    process = stack.python(
        TRAINING.replace("sys.stdin.readable() and ", "").replace("__import__", "False and __import__")
    )
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    eventually(lambda: points_in(stack.get(f"/runs/{run_id}")) > 0, "points in PostgreSQL")
    eventually(lambda: points_in(stack.get(f"/runs/{run_id}/metrics/loss", points=10)) > 0, "points in DuckDB")
    done, failures = threading.Event(), list[str]()
    asking = threading.Thread(target=in_a_loop, args=(stack, run_id, done, failures))
    asking.start()
    try:
        for store in ("postgres", "duckdb"):
            told = stack.runtide("rebuild", store).stderr
            assert "0 differ" in told
            assert "swapped" in told
        assert "nothing to do" in stack.runtide("rebuild", "duckdb", "--from-version", "0").stderr
    finally:
        done.set()
        asking.join()
        process.kill()
        process.wait()
    assert failures == []
    before = points_in(stack.get(f"/runs/{run_id}"))
    for store in ("postgres", "duckdb"):
        assert "swapped back" in stack.runtide("rebuild", store, "--rollback").stderr
    eventually(lambda: points_in(stack.get(f"/runs/{run_id}")) >= before, "PostgreSQL to catch up")
    eventually(lambda: points_in(stack.get(f"/runs/{run_id}/metrics/loss", points=10)) >= before, "DuckDB to catch up")


@pytest.mark.slow
def test_a_stack_of_older_layouts_upgrades_itself_when_it_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_stack(data) as stack:
        process = stack.python(SHORT)
        assert process.wait(60) == 0
        eventually(lambda: stack.sql("SELECT count(*) AS points FROM metrics") == [{"points": 100}], "points in DuckDB")
        eventually(
            lambda: stack.postgres("SELECT sum(point_count)::int AS n FROM metric_summaries") == [{"n": 100}], "PG"
        )
        for statement in (
            "ALTER TABLE runs DROP COLUMN end_reason",
            "UPDATE projection_state SET value = 0 WHERE name = 'layout'",
        ):
            stack.postgres(statement)
    with duckdb.connect(str(data / "history" / "history.duckdb")) as connection:
        connection.execute("ALTER TABLE runs DROP end_reason")
        connection.execute("UPDATE format SET version = 0")
    with running_stack(data) as stack:
        eventually(
            lambda: (
                stack.postgres("SELECT value FROM projection_state WHERE name = 'layout'")
                == [{"value": LAYOUT_VERSION}]
            ),
            "PostgreSQL to be upgraded",
        )
        eventually(lambda: stack.sql("SELECT end_reason FROM runs") == [{"end_reason": ""}], "DuckDB to be upgraded")
        assert stack.postgres("SELECT sum(point_count)::int AS n FROM metric_summaries") == [{"n": 100}]
        assert stack.sql("SELECT count(*) AS points FROM metrics") == [{"points": 100}]
