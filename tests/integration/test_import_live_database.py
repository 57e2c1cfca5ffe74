"""MLflow's SQLite database while MLflow writes it, and after it was killed."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runtide.importing import mlflow
from runtide_schemas.errors import InvalidRequest, TransientError
from tests.integration.import_samples import RUNS, START, connection_to
from tests.integration.test_import_mlflow_database import database, insert

WRITER = """
import sqlite3, sys, time
path, run_id, how = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=60)
connection.execute("PRAGMA cache_size = 5")
number = 0
while True:
    connection.execute("BEGIN")
    rows = [(-99.0 - number - row, 1700000009000 + row, run_id, number + row) for row in range(500 if how == "live" else 30000)]
    connection.executemany("INSERT INTO metrics VALUES ('loss', ?, ?, ?, ?, 0)", rows)
    if how == "hot":
        print("written", flush=True)
        time.sleep(600)
    connection.execute("COMMIT")
    number += 500
    if number == 500: print("written", flush=True)
    time.sleep(0.005)
"""


@pytest.fixture
def live_database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A database of a run of 20,000 points and of one that another process writes."""
    path = tmp_path / "mlflow.db"
    database(path, RUNS[0], [(step, START * 1000 + step, float(step)) for step in range(20_000)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE INDEX by_run ON metrics(run_uuid)")
        connection.execute(
            f"INSERT INTO runs SELECT '{RUNS[1]}', name, source_type, source_name, user_id, status, "
            "start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id FROM runs"
        )
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, RUNS[1], request.param], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    yield path, process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("live_database", ["live"], indirect=True)
def test_a_live_database_gives_what_was_committed_and_each_point_once(
    live_database: tuple[Path, subprocess.Popen[str]], tmp_path: Path
) -> None:
    path, writer = live_database
    here = connection_to(None, tmp_path)
    points = 0
    for _ in range(4):
        report = mlflow.import_store(path, here)
        points += report.points
        assert not report.left_out and points % 500 == 0
    assert writer.poll() is None  # and it could write on
    writer.kill()
    writer.wait()
    with closing(sqlite3.connect(path)) as connection:  # recovers what the kill has left
        (there,) = connection.execute("SELECT count(*) FROM metrics").fetchone()
    assert points + mlflow.import_store(path, here).points == there


@pytest.mark.parametrize("live_database", ["hot"], indirect=True)
def test_a_database_with_half_a_transaction_is_refused_with_the_command_that_recovers_it(
    live_database: tuple[Path, subprocess.Popen[str]], tmp_path: Path
) -> None:
    path, writer = live_database
    writer.kill()
    writer.wait()
    assert path.with_name("mlflow.db-journal").stat().st_size
    here = connection_to(None, tmp_path)
    with pytest.raises(InvalidRequest, match="half a transaction") as refused:
        mlflow.import_store(path, here)
    command = str(refused.value).partition("recover it first with: ")[2]
    subprocess.run(command, shell=True, check=True, timeout=180)  # as whoever reads it would
    report = mlflow.import_store(path, here)
    assert report.points == 20_000 and not report.left_out


def test_a_locked_database_is_waited_for_and_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    database(path, RUNS[0], [(1, START * 1000, 0.5)])
    monkeypatch.setattr("runtide.importing.mlflow_snapshot.BUSY_TIMEOUT_S", 0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientError, match="writes it for longer than"):
            mlflow.import_store(path, connection_to(None, tmp_path))


def test_what_is_only_in_the_write_ahead_log_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    database(path, RUNS[0], [(1, START * 1000, 0.5)])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        insert(other, RUNS[0], [(2, START * 1000, 0.5)])
        other.commit()
        assert mlflow.import_store(path, connection_to(None, tmp_path)).points == 2


IMPORT = """
import ctypes, sys
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())  # root may not write either
from runtide.connection import Connection
from runtide.importing import mlflow
from runtide_schemas.errors import InvalidRequest
path, spool = sys.argv[1:]
here = Connection.resolve(broker="", spool=spool, data=spool + "/none", artifacts=spool + "/artifacts")
try:
    print("points", mlflow.import_store(path, here).points)
except InvalidRequest as error:
    print(error)
"""


def imported_read_only(path: Path, spool: Path) -> str:
    """Import a database from a folder that nobody may write; return what is said of it."""
    files = [path.parent, *path.parent.iterdir()]
    for file in files:
        file.chmod(0o500)
    try:
        command = [sys.executable, "-c", IMPORT, str(path), str(spool)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
    finally:
        for file in files:
            file.chmod(0o700)


@pytest.mark.slow
def test_a_database_with_a_write_ahead_log_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "backup" / "mlflow.db"
    path.parent.mkdir()
    database(path, RUNS[0], [(1, START * 1000, 0.5)])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        insert(other, RUNS[0], [(2, START * 1000, 0.5)])
        other.commit()
        assert imported_read_only(path, tmp_path / "in-use") == "points 2\n", (
            "the files beside it are there to be shared"
        )
        copied = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert [file.name for file in path.parent.iterdir()] == ["mlflow.db"]
    refused = imported_read_only(path, tmp_path / "closed")
    assert "in a folder that cannot be written" in refused and "import a copy" in refused
    (tmp_path / "copy.db").write_bytes(path.read_bytes())
    assert mlflow.import_store(tmp_path / "copy.db", connection_to(None, tmp_path)).points == 2
    for name in ("mlflow.db", "mlflow.db-wal"):
        (path.parent / name).write_bytes(copied[name])
    refused = imported_read_only(path, tmp_path / "torn-off")
    assert "import a copy" in refused and "mlflow.db-wal" in refused and "recover it" not in refused
