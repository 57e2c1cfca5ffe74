"""W&B's tables have no ids: which are one run, and what of them is read."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from runtide.importing import wandb
from tests.integration.import_samples import START, connection_to, losses, said, table


def test_tables_of_one_name_in_different_folders_are_different_runs(tmp_path: Path) -> None:
    for name, first in (("run-a", 0.1), ("run-b", 0.1)):
        table(tmp_path / "exports" / name / "history.csv", losses(5, first))
    for project, rate in (("p1", 0.1), ("p2", 0.9)):
        table(tmp_path / "exports" / project / "baseline" / "history.csv", losses(5, rate))
        (tmp_path / "exports" / project / "baseline" / "config.json").write_text(json.dumps({"rate": rate}))
    report = wandb.import_export(tmp_path / "exports", connection_to(None, tmp_path))
    assert sorted(report.new) == ["p1/baseline", "p2/baseline", "run-a/history", "run-b/history"]
    assert report.points == 20 and not report.left_out


def test_files_of_one_name_imported_one_by_one_are_different_runs_and_each_may_grow(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    for name, first in (("a", 0.1), ("b", 0.2)):
        table(tmp_path / name / "history.csv", losses(5, first))
        report = wandb.import_export(tmp_path / name / "history.csv", here)
        assert len(report.new) == 1 and report.points == 5
    wider = [row | {"accuracy": step if step >= 5 else ""} for step, row in enumerate(losses(8, 0.1))]
    table(tmp_path / "a" / "history.csv", [{"": 0} | row for row in wider])
    report = wandb.import_export(tmp_path / "a" / "history.csv", here)
    assert report.grown == ["history"] and report.points == 6


def test_the_same_table_in_two_formats_is_imported_once_and_that_is_said(tmp_path: Path) -> None:
    table(tmp_path / "x" / "history.csv", losses(5, 0.1))
    parquet.write_table(pa.Table.from_pylist(losses(5, 0.1)), tmp_path / "x" / "history.parquet")
    report = wandb.import_export(tmp_path / "x", connection_to(None, tmp_path))
    assert report.points == 5 and "it holds the same as 'history'" in said(report)


def test_columns_of_text_are_never_decoded(tmp_path: Path) -> None:
    """A text of 8 MiB that a dictionary repeats a thousand times is a file of kilobytes, and was 8 GiB of memory."""
    rows = 1_024
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 8 * 1024 * 1024]))
    columns = {"_step": list(range(rows)), "_timestamp": [float(START)] * rows, "loss": [0.5] * rows, "text": text}
    parquet.write_table(pa.table(columns), tmp_path / "b.parquet", compression="zstd", store_schema=False)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from runtide.connection import Connection\n"
        "from runtide.importing import wandb\n"
        "folder = Path(sys.argv[1])\n"
        "here = Connection.resolve(broker='', spool=folder / 'spool', data=folder / 'none', artifacts=str(folder / 'a'))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "report = wandb.import_export(folder / 'b.parquet', here)\n"
        "print(report.points, [part.what for _, part in report.left_out])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.stdout == "1024 [\"column 'text'\"]\n", done.stderr[-500:]
