"""Importing again: after other options, with other machines, after kills."""

import json
import shutil
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
from runtide.kafka import KafkaSettings
from runtide.spool.export import exported
from runtide.spool.manifest import FILE as MANIFEST_FILE
from runtide.sync import sync
from runtide_deploy.cli import importing as cli
from runtide_deploy.cli.main import app
from runtide_schemas.errors import FatalError, InvalidRequest, NotFound
from tests.integration.import_samples import RUNS, START, FileStoreSample, connection_to, said, two_runs


def test_another_experiment_for_a_run_that_is_imported_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = two_runs(tmp_path)
    mlflow.import_store(store, here)
    spools = sorted(here.spool.rglob(MANIFEST_FILE))
    report = mlflow.import_store(store, here, ImportOptions(experiment="X"))
    assert report.unchanged == list(RUNS) and not report.grown
    assert "the run was imported with 'digits', which stays" in said(report)
    assert sorted(here.spool.rglob(MANIFEST_FILE)) == spools


def test_what_only_the_start_of_a_run_says_stays_and_that_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = FileStoreSample(tmp_path / "mlruns")
    store.run(RUNS[0])
    store.text(RUNS[0], "params", "gone", "1")
    store.dataset(RUNS[0], "digits", "training")
    mlflow.import_store(store.root, here)
    spools = sorted(here.spool.rglob(MANIFEST_FILE))
    start = START * 1000
    store.run(RUNS[0], user_id="grace", start_time=start, source_name="b.py", source_version="f00")
    (store.folder / RUNS[0] / "params" / "gone").unlink()
    shutil.rmtree(store.folder / RUNS[0] / "inputs")
    for options in (ImportOptions(dry_run=True), ImportOptions(), ImportOptions()):
        report = mlflow.import_store(store.root, here, options)
        assert report.unchanged == [RUNS[0]] and not report.grown
        assert "the user 'grace': the run was imported with 'ada', which stays" in said(report)
        assert f"the start time {start}: the run was imported with 1599999999000" in said(report)
        assert "the source 'b.py'" in said(report) and "the version of the source 'f00'" in said(report)
        assert sorted(here.spool.rglob(MANIFEST_FILE)) == spools
    store.text(RUNS[0], "params", "gone", "1")
    assert mlflow.import_store(store.root, here).unchanged == [RUNS[0]], "it is imported already"


def test_a_parent_that_changed_stays_as_it_was_imported(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = FileStoreSample(tmp_path / "mlruns")
    store.run(RUNS[0])
    mlflow.import_store(store.root, here)
    store.text(RUNS[0], "tags", "mlflow.parentRunId", RUNS[1])
    assert f"the parent run {RUNS[1]!r}: the run was imported with ''" in said(mlflow.import_store(store.root, here))
    assert mlflow.import_store(store.root, here).unchanged == [RUNS[0]]


def test_each_change_there_and_back_and_there_again_has_events_of_its_own(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = FileStoreSample(tmp_path / "mlruns")
    for number, name in enumerate(("fox", "owl", "fox", "owl"), start=1):
        store.run(RUNS[0], run_name=name)
        mlflow.import_store(store.root, here)
        assert len(list(here.spool.rglob(MANIFEST_FILE))) == number


def test_a_run_that_was_restored_at_its_source_is_restored(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    store = FileStoreSample(tmp_path / "mlruns")
    store.run(RUNS[0], lifecycle_stage="deleted")
    mlflow.import_store(store.root, here, deleted=True)
    store.run(RUNS[0])
    assert mlflow.import_store(store.root, here).grown == [RUNS[0]]
    events = [event for spool in here.spool.rglob(MANIFEST_FILE) for event in exported([spool.parent])]
    assert {"RunDeleted", "RunRestored"} <= {type(event.body).__name__ for event in events}
    assert mlflow.import_store(store.root, here).unchanged == [RUNS[0]]


def test_a_damaged_ledger_of_a_killed_import_is_named_and_stops_neither_imports_nor_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    here = connection_to(None, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "release", interrupted)
        mlflow.import_store(two_runs(tmp_path), here)
    (here.spool / "imports" / f"{RUNS[0]}.json").write_text("{")
    place = here.spool / "imports" / "unfinished" / RUNS[0]
    (spool,) = sync([here.spool], KafkaSettings(bootstrap="127.0.0.1:1")).spools
    assert (spool.directory, spool.state) == (place, "not sent") and "Restore it, or delete it" in spool.problem
    listed = CliRunner().invoke(app, ["spool", "ls", str(here.spool)])
    assert listed.exit_code == 0, listed.output
    report = mlflow.import_store(two_runs(tmp_path / "other"), here)
    assert report.new == [RUNS[1]] and "Restore it, or delete it" in said(report)
    assert len(list(place.iterdir())) == 2, "nothing of it is lost"


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("text", ["{", '{"format": 99}', '{"format": 1, "series": {"m": 5}}'])
def test_a_run_whose_ledger_is_damaged_is_left_out_and_the_others_go_on(
    tmp_path: Path, text: str, dry_run: bool
) -> None:
    here = connection_to(None, tmp_path)
    store = two_runs(tmp_path)
    mlflow.import_store(store, here)
    damaged = here.spool / "imports" / f"{RUNS[0]}.json"
    damaged.write_text(text)
    spools = sorted(here.spool.rglob(MANIFEST_FILE))
    report = mlflow.import_store(store, here, ImportOptions(dry_run=dry_run))
    assert (report.new, report.grown, report.unchanged) == ([], [], [RUNS[1]]), said(report)
    assert f"{RUNS[0]}: the run" in said(report) and str(damaged) in said(report)
    assert sorted(here.spool.rglob(MANIFEST_FILE)) == spools
    assert damaged.read_text() == text


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
    killed = subprocess.run([sys.executable, "-c", program, store, here.spool], check=False, timeout=120)
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
