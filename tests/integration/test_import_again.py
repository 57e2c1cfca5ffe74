"""Importing again: after other options, with other machines, after kills."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtide.importing import mlflow
from runtide.importing.importer import ImportOptions, import_runs
from runtide.importing.ledger import Ledger
from runtide.importing.records import SourceRun
from runtide.spool.manifest import FILE as MANIFEST_FILE
from runtide_deploy.cli import importing as cli
from runtide_deploy.cli.main import app
from runtide_schemas.errors import FatalError, InvalidRequest, NotFound
from tests.integration.import_samples import RUNS, connection_to, said, two_runs


def test_another_experiment_for_a_run_that_is_imported_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = two_runs(tmp_path)
    mlflow.import_store(store, here)
    spools = sorted(here.spool.rglob(MANIFEST_FILE))
    report = mlflow.import_store(store, here, ImportOptions(experiment="X"))
    assert report.unchanged == list(RUNS) and not report.grown
    assert "the run was imported with 'digits', which stays" in said(report)
    assert sorted(here.spool.rglob(MANIFEST_FILE)) == spools


def test_spools_that_a_killed_import_had_noted_are_found_although_the_source_is_gone(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = two_runs(tmp_path)
    program = (
        "import os, sys\n"
        "from runtide.connection import Connection\n"
        "from runtide.importing import ledger, mlflow\n"
        "ledger.Ledger.release = lambda *_: os._exit(9)\n"
        "root, spool = sys.argv[1:]\n"
        "mlflow.import_store(root, Connection.resolve(broker='', spool=spool, data=spool + '/none', artifacts=spool + '/a'))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, store, here.spool], check=False, timeout=60)
    assert killed.returncode == 9 and len(list((here.spool / "imports" / "unfinished").iterdir())) == 1
    listed = CliRunner().invoke(app, ["spool", "ls", str(here.spool), "--json"])
    assert {spool["run_id"] for spool in json.loads(listed.output)} == {RUNS[0]}
    other = two_runs(tmp_path / "other")
    (other / "123" / RUNS[0]).rename(tmp_path / "gone")
    report = mlflow.import_store(other, here)
    assert RUNS[0] in {path.parent.name for path in report.unsent}
    assert not list((here.spool / "imports" / "unfinished").iterdir())


def test_an_error_of_the_one_who_holds_the_lock_is_not_the_lock_s(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError, match="his"), Ledger(tmp_path).locked():
        raise BlockingIOError("his")


def test_a_gateway_that_lets_nobody_in_stops_the_import_and_one_that_knows_no_run_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = NotFound("no such run")

    def get(*_: object) -> None:
        raise asked

    monkeypatch.setattr("runtide_deploy.cli.gateway.get", get)
    options = ImportOptions(points_writers=lambda run_id: cli.points_writers("http://gateway", run_id))
    assert len(mlflow.import_store(two_runs(tmp_path), connection_to(None, tmp_path), options).new) == 2
    asked = InvalidRequest("show a token", "UNAUTHENTICATED")  # type: ignore[assignment]  # of the closure
    with pytest.raises(FatalError, match="show a token"):
        mlflow.import_store(two_runs(tmp_path / "b"), connection_to(None, tmp_path / "b"), options)


def test_every_repeated_run_id_is_left_out_whatever_its_label(tmp_path: Path) -> None:
    class Twice:
        kind = "twice"

        def runs(self) -> Iterator[SourceRun]:
            for origin in ("one", "two"):
                yield SourceRun(run_id=RUNS[0], label="same", origin=origin, size=1, read=lambda: iter(()))

    assert "it holds the same as 'same'" in said(import_runs(Twice(), connection_to(None, tmp_path)))
