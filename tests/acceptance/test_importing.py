"""`runtide import` against the whole stack: the projections have every point, once, whoever imports how often."""

import math
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from runtide_schemas.identity import new_run_id
from tests.acceptance.stack import RUNTIDE, RunningStack, eventually
from tests.integration.import_samples import HOSTILE_ROWS, FileStoreSample

pytestmark = pytest.mark.slow


def points_of(stack: RunningStack, run_id: str) -> list[bytes]:
    """Return a run's points as DuckDB has them, each as bytes, sorted."""
    found = stack.sql(f"SELECT step, timestamp, value FROM metrics WHERE run_id = '{run_id}'")
    return sorted(struct.pack("<qqd", row["step"], row["timestamp"], float(row["value"])) for row in found)


def points_in_postgres(stack: RunningStack, run_id: str) -> int:
    """Return how many points PostgreSQL knows of a run."""
    question = "SELECT coalesce(sum(point_count), 0)::int AS points FROM metric_summaries WHERE run_id = $1"
    return int(stack.postgres(question, run_id)[0]["points"])


def test_an_import_is_in_both_projections_once(stack: RunningStack, tmp_path: Path) -> None:
    store, parent, child = FileStoreSample(tmp_path / "mlruns"), new_run_id(), new_run_id()
    many = [(step, 1_600_000_000_000 + step, math.sin(step)) for step in range(5_000)]
    expected = sorted(struct.pack("<qqd", *row) for row in many + HOSTILE_ROWS)
    store.run(parent)
    store.metric(parent, "loss", many)
    store.metric(parent, "odd", HOSTILE_ROWS)
    store.text(parent, "params", "rate", "0.1")
    store.run(child, status=5)
    store.text(child, "tags", "mlflow.parentRunId", parent)

    shown = stack.runtide("import", "mlflow", str(store.root))
    assert "Imported 2 new runs: 5,007 points" in shown.stdout
    eventually(lambda: points_of(stack, parent) == expected, "all points in DuckDB")
    eventually(lambda: points_in_postgres(stack, parent) == len(expected), "all points in PostgreSQL")
    before = stack.get(f"/runs/{parent}")
    assert "2 had nothing new" in stack.runtide("import", "mlflow", str(store.root)).stdout

    shutil.copytree(store.root, tmp_path / "copy" / "mlruns")  # another machine: another spool, nothing noted there
    elsewhere = {**stack.environment, "RUNTIDE_SPOOL": str(tmp_path / "spool")}
    again = [str(RUNTIDE), "import", "mlflow", str(tmp_path / "copy")]
    said = subprocess.run(again, env=elsewhere, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "Imported 2 new runs" in said

    store.metric(parent, "odd", [(99, 1_600_000_000_000, 1.0)])
    grown = [str(RUNTIDE), "import", "mlflow", str(store.root)]
    said = subprocess.run(grown, env=elsewhere, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "1 with news: 1 points" in said  # that spool directory knows the run
    unknowing = {**stack.environment, "RUNTIDE_SPOOL": str(tmp_path / "third")}
    said = subprocess.run(grown, env=unknowing, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "another spool directory" in said
    expected = sorted([*expected, struct.pack("<qqd", 99, 1_600_000_000_000, 1.0)])

    last = new_run_id()  # once this one is seen, all before it was folded
    store.run(last)
    store.metric(last, "end", [(0, 1, 1.0)])
    subprocess.run(grown, env=elsewhere, capture_output=True, timeout=120, check=True)
    eventually(lambda: len(points_of(stack, last)) == 1, "the later run")
    eventually(lambda: points_in_postgres(stack, last) == 1, "the later run in PostgreSQL")
    assert points_of(stack, parent) == expected
    after = stack.get(f"/runs/{parent}")
    assert (after["artifacts"], after["param_conflicts"]) == (before["artifacts"], [])
    for part in ("info", "params", "tags"):
        assert after["run"][part] == before["run"][part]
    (row,) = stack.postgres("SELECT * FROM runs WHERE run_id = $1", parent)
    assert (row["name"], row["status"], row["start_time"]) == ("swift-fox", "FINISHED", 1_599_999_999_000)
    (summary,) = stack.postgres("SELECT * FROM metric_summaries WHERE run_id = $1 AND key = 'loss'", parent)
    assert summary["point_count"] == 5_000
    (row,) = stack.postgres("SELECT * FROM runs WHERE run_id = $1", child)
    assert (row["parent_run_id"], row["status"], row["end_time"]) == (parent, "KILLED", 1_600_000_009_000)
