"""Neptune's Parquet export and W&B's histories as tables into the log, by the layouts that their exporters document."""

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from runtide.importing import neptune, wandb
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import ArtifactLogged, ParamsLogged, RunEnded, RunStarted, TagsSet
from tests.broker_process import BrokerProcess
from tests.integration.import_samples import HOSTILE_ROWS, broker, connection_to, log_of, packed_all, series
from tests.integration.sdk_log import assert_complete, bodies

__all__ = ["broker"]

NEPTUNE_SCHEMA = pa.schema(
    [
        ("project_id", pa.string()),
        ("run_id", pa.string()),
        ("attribute_path", pa.string()),
        ("attribute_type", pa.string()),
        ("step", pa.decimal128(18, 6)),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("int_value", pa.int64()),
        ("float_value", pa.float64()),
        ("string_value", pa.string()),
        ("bool_value", pa.bool_()),
        ("datetime_value", pa.timestamp("ms", tz="UTC")),
        ("string_set_value", pa.list_(pa.string())),
        ("file_value", pa.struct([("path", pa.string())])),
        ("histogram_value", pa.struct([("type", pa.string()), ("edges", pa.list_(pa.float64()))])),
    ]
)
"""As the exporter's README documents it; the exporter itself is on no package index."""


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


class NeptuneSample:
    """Writes an export of one run."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.root = root
        self.run_id = run_id
        self.project = "team_vision-0011"
        self.parts = 0

    def part(self, rows: list[dict[str, Any]]) -> Path:
        """Write the next part."""
        folder = self.root / "data" / self.project
        folder.mkdir(parents=True, exist_ok=True)
        given = {"project_id": "team/vision", "run_id": self.run_id}
        table = pa.Table.from_pylist([given | row for row in rows], schema=NEPTUNE_SCHEMA)
        path = folder / f"{self.run_id}-ff_part_{self.parts}.parquet"
        parquet.write_table(table, path, compression="snappy")
        self.parts += 1
        return path


def attribute(path: str, kind: str, value: Any) -> dict[str, Any]:
    return {"attribute_path": path, "attribute_type": kind, f"{kind}_value": value}


def point(path: str, step: float | str, timestamp: int, value: float) -> dict[str, Any]:
    given = {"attribute_path": path, "attribute_type": "float_series", "float_value": value}
    return given | {"step": Decimal(str(step)), "timestamp": at(timestamp)}


def test_a_neptune_export_arrives_point_for_point(broker: BrokerProcess, tmp_path: Path) -> None:
    sample = NeptuneSample(tmp_path / "exports", "VIS-1")
    many = [(step, 1_600_000_000_000 + step, step / 7) for step in range(100_000)]
    sample.part(
        [
            attribute("sys/creation_time", "datetime", at(1_599_999_999_123)),
            attribute("sys/ping_time", "datetime", at(1_700_000_000_456)),
            attribute("sys/owner", "string", "ada"),
            attribute("sys/name", "string", "bold-name"),
            attribute("sys/description", "string", "a note"),
            attribute("sys/tags", "string_set", ["a", "b"]),
            attribute("sys/failed", "bool", True),
            attribute("config/rate", "float", 0.1),
            attribute("config/layers", "int", 3),
            attribute("config/deep", "bool", False),
            *(point("train/loss", *row) for row in HOSTILE_ROWS),
            {"attribute_path": "logs/out", "attribute_type": "string_series", "step": Decimal(1)}
            | {"timestamp": at(1_600_000_000_000), "string_value": "hello"},
            {"attribute_path": "files/model", "attribute_type": "file", "file_value": {"path": "VIS-1/model.bin"}},
            {"attribute_path": "files/gone", "attribute_type": "file", "file_value": {"path": "VIS-1/gone"}},
            {"attribute_path": "files/evil", "attribute_type": "file", "file_value": {"path": "../../../secret"}},
            {"attribute_path": "h", "attribute_type": "histogram_series", "step": Decimal(1)},
        ]
    )
    sample.part([point("many", *row) for row in many])
    (tmp_path / "secret").write_text("secret")
    files = tmp_path / "exports" / "files" / sample.project / "VIS-1"
    files.mkdir(parents=True)
    (files / "model.bin").write_bytes(b"weights")
    here = connection_to(broker, tmp_path)
    report = neptune.import_export(tmp_path / "exports", here)
    assert report.points == len(HOSTILE_ROWS) + len(many)
    assert sorted(left_out.what for _, left_out in report.left_out) == [
        "1 rows of type histogram_series",
        "file 'files/evil'",
        "file 'files/gone'",
    ]
    assert neptune.import_export(tmp_path / "exports", here).unchanged == ["VIS-1"]
    run_id = neptune._run_id("team/vision", "VIS-1")
    events = log_of(broker, run_id)
    assert_complete(events)
    assert series(events) == {"train/loss": packed_all(HOSTILE_ROWS), "many": packed_all(many)}
    (started,) = bodies(events, RunStarted)
    assert (started.name, started.user, started.experiment_name) == ("bold-name", "ada", "team/vision")
    assert started.start_time == 1_599_999_999_123
    (ended,) = bodies(events, RunEnded)
    assert (ended.status, ended.end_time) == ("FAILED", 1_700_000_000_456)
    assert bodies(events, ParamsLogged)[0].params == {
        "config/rate": "0.1",
        "config/layers": "3",
        "config/deep": "False",
    }
    assert bodies(events, TagsSet)[0].tags["mlflow.note.content"] == "a note"
    assert {artifact.path for artifact in bodies(events, ArtifactLogged)} == {
        "files/model.bin",
        "series/logs/out.jsonl",
    }


def test_steps_with_fractions_need_a_multiplier_and_are_said(broker: BrokerProcess, tmp_path: Path) -> None:
    sample = NeptuneSample(tmp_path / "exports", "VIS-2")
    sample.part([point("loss", step, 1_600_000_000_000, 1.0) for step in ("0", "0.5", "1.25", "-2")])
    report = neptune.import_export(tmp_path / "exports", connection_to(broker, tmp_path / "one"))
    assert report.points == 2 and "--step-multiplier" in report.left_out[0][1].why
    here = connection_to(broker, tmp_path / "two")
    report = neptune.import_export(tmp_path / "exports", here, step_multiplier=100)
    assert report.points == 4 and not report.left_out
    events = log_of(broker, neptune._run_id("team/vision", "VIS-2"))
    whole = packed_all([(step, 1_600_000_000_000, 1.0) for step in (0, -2)])  # of the first import, into the same run
    times_100 = packed_all([(step, 1_600_000_000_000, 1.0) for step in (0, 50, 125, -200)])
    assert series(events)["loss"] == sorted(whole + times_100)
    with pytest.raises(InvalidRequest, match="power of ten"):
        neptune.import_export(tmp_path / "exports", here, step_multiplier=20)


def test_a_damaged_part_is_said_and_the_others_are_imported(broker: BrokerProcess, tmp_path: Path) -> None:
    sample = NeptuneSample(tmp_path / "exports", "VIS-3")
    sample.part([point("loss", 1, 1_600_000_000_000, 1.0)])
    broken = sample.part([point("loss", 2, 1_600_000_000_000, 1.0)] * 5_000)
    broken.write_bytes(broken.read_bytes()[:-100])
    foreign = broken.with_name("other_part_0.parquet")
    parquet.write_table(pa.table({"a": [1]}), foreign)
    report = neptune.import_export(tmp_path / "exports" / "data", connection_to(broker, tmp_path))
    assert report.new == ["VIS-3"] and report.points == 1
    assert {left_out.what for _, left_out in report.left_out} == {f"the rest of {broken.name}", "run 'other'"}


def wandb_table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Write what ``pandas.DataFrame(run.scan_history()).to_csv()`` writes, and the documents beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"": place, "_step": step, "_timestamp": timestamp / 1000, "_runtime": 1.5, "loss": repr(value), "text": "a"}
        for place, (step, timestamp, value) in enumerate(HOSTILE_ROWS)
    ]
    rows.append({"": 9, "_step": 9, "_timestamp": 1_600_000_009, "_runtime": 9, "loss": "", "text": ""})
    rows.append({"": 10, "_step": 10, "_timestamp": "", "_runtime": 9, "loss": "1.0", "text": ""})
    with (folder / name).open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return rows


def test_a_wandb_history_as_csv_and_as_parquet(broker: BrokerProcess, tmp_path: Path) -> None:
    folder = tmp_path / "export" / "swift-fox-7"
    wandb_table(folder, "history.csv")
    (folder / "config.json").write_text(json.dumps({"rate": {"value": 0.1}, "opt": {"name": "adam"}, "_wandb": {}}))
    (folder / "summary.json").write_text(json.dumps({"best": 0.9, "_step": 3}))
    rows = [{"_step": step, "_timestamp": timestamp / 1000, "loss": value} for step, timestamp, value in HOSTILE_ROWS]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "export" / "bold-owl-8.parquet")
    (tmp_path / "export" / "chart.csv").write_text('"Step","swift-fox-7 - loss"\n0,1\n')
    report = wandb.import_export(tmp_path / "export", connection_to(broker, tmp_path))
    assert sorted(report.new) == ["bold-owl-8", "swift-fox-7"] and report.points == 2 * len(HOSTILE_ROWS)
    said = {left_out.what: left_out.why for _, left_out in report.left_out}
    assert "export run.history()" in said["the rest of chart.csv"] and "1 rows" in said
    assert f"{len(HOSTILE_ROWS)} values of 'text'" in said
    for name in report.new:
        (run,) = [run for run in wandb.Export(tmp_path / "export").runs() if getattr(run, "label", "") == name]
        events = log_of(broker, getattr(run, "run_id", ""))
        assert_complete(events)
        assert series(events) == {"loss": packed_all(HOSTILE_ROWS)}
    assert bodies(events, RunStarted)[0].start_time == 1_600_000_000_000
    assert bodies(events, RunEnded)[0].end_time == 1_600_000_009_000
    assert bodies(events, ParamsLogged)[0].params == {"rate": "0.1", "opt.name": "adam"}
    assert bodies(events, TagsSet)[0].tags["wandb.summary.best"] == "0.9"
