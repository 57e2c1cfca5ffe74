"""One run that is hostile or damaged stops no other, and is said."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from runtide.importing import mlflow, neptune, wandb
from runtide.importing.ledger import Ledger
from runtide_deploy.cli.main import app
from runtide_schemas.errors import FatalError
from tests.integration.import_samples import (
    RUNS,
    FileStoreSample,
    attribute,
    connection_to,
    export_part,
    losses,
    said,
    table,
    two_runs,
)


@pytest.mark.parametrize("hostile", [{"start_time": float("inf")}, {"status": {"a": 1}, "start_time": 1}])
def test_odd_fields_of_a_file_store(tmp_path: Path, hostile: dict[str, Any]) -> None:
    report = mlflow.import_store(two_runs(tmp_path, **hostile), connection_to(None, tmp_path))
    assert RUNS[1] in report.new
    assert RUNS[0] in report.new or f"{RUNS[0]}: the run" in said(report)


def test_an_error_that_nobody_foresaw_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Callable[[Ledger, str], Any] = Ledger.read

    def read(self: Ledger, run_id: str) -> Any:
        if run_id == RUNS[0]:
            raise ArithmeticError("odd")
        return known(self, run_id)

    store = two_runs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("runtide.importing.ledger.Ledger.read", read)
        report = mlflow.import_store(store, connection_to(None, tmp_path))
    assert report.new == [RUNS[1]], said(report)
    assert "ArithmeticError: odd" in said(report)
    monkeypatch.setattr(Ledger, "read", _damaged)
    with pytest.raises(FatalError, match="ours"):
        mlflow.import_store(store, connection_to(None, tmp_path))


@pytest.mark.parametrize(
    ("types", "row"),
    [
        ({"float_value": pa.string()}, attribute("loss", "float_series", "a")),
        ({"step": pa.string()}, attribute("loss", "float_series", 0.5, step="x")),
        ({"attribute_path": pa.int64()}, attribute("loss", "float_series", 0.5) | {"attribute_path": 1}),
        ({"file_value": pa.string()}, attribute("f", "file", "x")),
        ({"project_id": pa.list_(pa.int64())}, attribute("f", "int", 1) | {"project_id": [1]}),
    ],
)
def test_odd_columns_of_a_neptune_export(tmp_path: Path, types: dict[str, Any], row: dict[str, Any]) -> None:
    start = attribute("sys/creation_time", "datetime", datetime(2024, 1, 1, tzinfo=UTC))
    export_part(tmp_path / "data" / "p" / "a_part_0.parquet", [row], **types)
    export_part(tmp_path / "data" / "p" / "b_part_0.parquet", [start], run_id="R-2")
    report = neptune.import_export(tmp_path / "data", connection_to(None, tmp_path))
    assert "R-2" in report.new and report.left_out


def test_microseconds_of_a_neptune_export_are_cut(tmp_path: Path) -> None:
    at = datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    row = attribute("loss", "float_series", 0.5, step=Decimal(1), timestamp=at)
    export_part(tmp_path / "data" / "p" / "a_part_0.parquet", [row], timestamp=pa.timestamp("us", tz="UTC"))
    report = neptune.import_export(tmp_path / "data", connection_to(None, tmp_path))
    assert report.points == 1 and not report.left_out


def test_names_that_are_no_unicode_are_imported_and_printed(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    table(folder / "sound.csv", losses(3, 0.5))
    named = os.fsencode(folder) + b"/w\xff.csv"
    Path(os.fsdecode(named)).write_bytes((folder / "sound.csv").read_bytes())
    metadata = folder / "m"
    table(metadata / "h.csv", losses(3, 0.5))
    (metadata / "wandb-metadata.json").write_text('{"project": "\\ud800x"}')
    report = wandb.import_export(folder, connection_to(None, tmp_path))
    assert report.points == 9 and sorted(report.new) == ["m", "sound", "w\\udcff"]
    environment = {"RUNTIDE_SPOOL": str(tmp_path / "s"), "RUNTIDE_DATA": str(tmp_path / "none")}
    printed = CliRunner().invoke(app, ["import", "wandb", str(folder), "--dry-run", "--broker", ""], env=environment)
    assert printed.exit_code == 0, printed.output


def test_names_and_parents_that_no_run_may_have_are_left_out_and_said(tmp_path: Path) -> None:
    store = FileStoreSample(tmp_path / "mlruns", experiment="x" * 600)
    store.run(RUNS[0])
    store.text(RUNS[0], "tags", "mlflow.parentRunId", "../no id at all")
    report = mlflow.import_store(store.root, connection_to(None, tmp_path))
    assert report.new == [RUNS[0]]
    assert "the experiment's name" in said(report) and "the parent run" in said(report)


def _damaged(*_: object) -> None:
    raise FatalError("ours")
