"""Files are read from the source, and from folders that the user named, and from nowhere else."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtide.importing import mlflow, neptune
from tests.integration.import_samples import RUNS, START, attribute, connection_to, export_part, said, stored
from tests.integration.test_import_mlflow_database import database


def test_a_database_reads_no_files_beside_it_but_those_of_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "home" / "mlflow.db"
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "id_rsa").write_text("PRIVATE")
    database(path, RUNS[0], [(1, START * 1000, 0.5)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (f"file://{tmp_path}/home/.ssh",))
    report = mlflow.import_store(path, connection_to(None, tmp_path))
    assert report.points == 1 and report.artifacts == 0 and not stored(tmp_path)
    assert "allow it with --artifact-root" in said(report)
    (tmp_path / "home" / "mlartifacts").symlink_to(tmp_path / "home" / ".ssh")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (f"file://{tmp_path}/home/mlartifacts",))
    mlflow.import_store(path, connection_to(None, tmp_path))
    assert not stored(tmp_path)


@pytest.mark.parametrize(("below", "taken"), [("exp", False), ("data", True)])
def test_neptune_s_files_lie_beside_a_folder_data_only(tmp_path: Path, below: str, taken: bool) -> None:
    base = tmp_path / "work" / below
    for files in (tmp_path / "files", tmp_path / "work" / "files"):
        files.mkdir(parents=True)
        (files / f"payroll-{files.parent.name}.xls").write_text("secret")
    names = [f"payroll-{folder.name}.xls" for folder in (tmp_path, tmp_path / "work")]
    rows = [
        attribute("sys/creation_time", "datetime", datetime(2024, 1, 1, tzinfo=UTC)),
        *(attribute(f"file{number}", "file", {"path": name}) for number, name in enumerate(names)),
    ]
    export_part(base / "proj" / "x_part_0.parquet", rows)
    report = neptune.import_export(base, connection_to(None, tmp_path))
    assert len(report.new) == 1 and report.artifacts == int(taken)
    assert stored(tmp_path) == (["file1.xls"] if taken else [])
