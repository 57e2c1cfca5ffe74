"""MLflow's SQLite database into the log: exactly, once, grown, damaged and odd ones."""

import sqlite3
import sys
from pathlib import Path

import pytest

from runtide.importing.mlflow import import_store
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import RunEnded
from runtide_schemas.identity import new_run_id
from tests.broker_process import BrokerProcess
from tests.integration.import_samples import HOSTILE_ROWS, broker, connection_to, log_of, packed_all, series
from tests.integration.sdk_log import assert_complete, bodies

__all__ = ["broker"]


def database(path: Path, run_id: str, rows: list[tuple[int, int, float]]) -> None:
    """Make the tables that matter, as MLflow's migrations leave them."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT, lifecycle_stage TEXT);
            CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, name TEXT, source_type TEXT, source_name TEXT, user_id TEXT,
                status TEXT, start_time BIGINT, end_time BIGINT, source_version TEXT, lifecycle_stage TEXT,
                artifact_uri TEXT, experiment_id INTEGER);
            CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
            CREATE VIEW datasets AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r;
            INSERT INTO experiments VALUES (1, 'digits', 'active');
            """
        )
        connection.execute(
            "INSERT INTO runs VALUES (?, 'fox', 'LOCAL', '', 'ada', 'KILLED', 1599999999000, 1600000009000, '', 'active', ?, 1)",
            (run_id, f"mlflow-artifacts:/1/{run_id}/artifacts"),
        )
        insert(connection, run_id, rows)


def insert(connection: sqlite3.Connection, run_id: str, rows: list[tuple[int, int, float]]) -> None:
    """Add points of the metric loss as MLflow's store does."""
    largest = sys.float_info.max
    for step, timestamp, value in rows:
        nan = value != value
        kept = 0.0 if nan else max(-largest, min(largest, value))
        connection.execute("INSERT INTO metrics VALUES ('loss', ?, ?, ?, ?, ?)", (kept, timestamp, run_id, step, nan))


def test_a_database_arrives_point_for_point_and_grows(broker: BrokerProcess, tmp_path: Path) -> None:
    run_id = new_run_id()
    path = tmp_path / "mlflow.db"
    database(path, run_id, HOSTILE_ROWS)
    files = tmp_path / "mlartifacts" / "1" / run_id / "artifacts"
    files.mkdir(parents=True)
    (files / "model.bin").write_bytes(b"x")
    here = connection_to(broker, tmp_path)
    report = import_store(tmp_path, here)
    assert (report.new, report.points, report.artifacts) == ([run_id], len(HOSTILE_ROWS), 1)
    more = [(9, 1_600_000_005_000, 0.25)] * 3
    with sqlite3.connect(path) as connection:
        insert(connection, run_id, more)
    assert import_store(path, here).points == 3
    assert import_store(path, here).unchanged == [run_id]
    events = log_of(broker, run_id)
    assert_complete(events)
    kept = [(step, timestamp, value + 0.0) for step, timestamp, value in HOSTILE_ROWS]  # SQLite has no -0.0
    assert series(events) == {"loss": packed_all(kept + more)}
    assert bodies(events, RunEnded)[0].status == "KILLED"


def test_a_damaged_or_odd_database_is_said(broker: BrokerProcess, tmp_path: Path) -> None:
    run_id = new_run_id()
    path = tmp_path / "mlflow.db"
    database(path, run_id, [(step, 1_600_000_000_000 + step, 0.5) for step in range(5_000)])
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO metrics VALUES ('odd', 'abc', 'x', ?, 1, 0)", (run_id,))
        connection.execute("INSERT INTO runs SELECT 'odd', name, '', '', '', '', 'never', 0, '', '', '', 1 FROM runs")
    report = import_store(path, connection_to(broker, tmp_path / "odd"))
    assert report.points == 5_000 and report.new == [run_id]
    assert {left_out.what for _, left_out in report.left_out} == {"1 points", "the run's times", "the run"}
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidRequest, match=r"damaged|malformed|cannot read"):
        import_store(path, connection_to(None, tmp_path / "cut"))
