# ruff: noqa: E402 - what is not installed is skipped first
"""Sources that their own libraries wrote: TensorBoard's event files, W&B's offline runs, MLflow's stores."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.heavy import require

require("tensorboard", "tensorboardX", "wandb", "mlflow", "crc32c")

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto
from tensorboardX import SummaryWriter

from runtide.importing import ImportReport, tensorboard, wandb
from runtide.importing.mlflow import import_store
from runtide.importing.records import SourceRun
from runtide.importing.wandb_log import find_logs
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ModelLogged,
    ParamsLogged,
    RunEnded,
    RunStarted,
    TagsSet,
)
from tests.broker_process import BrokerProcess
from tests.integration.import_samples import (
    HOSTILE_ROWS,
    Row,
    broker,
    connection_to,
    log_of,
    packed_all,
    series,
)
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, read_log

__all__ = ["broker"]
pytestmark = pytest.mark.heavy


def float32(rows: list[Row]) -> list[Row]:
    """Return points as event files keep them."""
    return [(step, timestamp, float(np.float32(value))) for step, timestamp, value in rows]


def write_scalars(folder: Path, rows: list[Row], tag: str = "loss") -> None:
    with SummaryWriter(str(folder)) as writer:
        for step, timestamp, value in rows:
            writer.add_scalar(tag, value, step, walltime=timestamp / 1000)


def scalar(row: Row) -> Any:
    step, timestamp, value = row
    parts = [Summary.Value(tag="loss", simple_value=value)]
    return Event(step=step, wall_time=timestamp / 1000, summary=Summary(value=parts))


def runs_of(folder: Path) -> dict[str, str]:
    """Return run ids by label."""
    found = [run for run in tensorboard.EventDirectory(folder).runs() if isinstance(run, SourceRun)]
    return {run.label: run.run_id for run in found}


def test_event_files_arrive_point_for_point(broker: BrokerProcess, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    many = [(step, 1_600_000_000_000 + step, step / 7) for step in range(50_000)]
    write_scalars(logs / "a" / "train", many)
    write_scalars(logs / "a" / "valid", HOSTILE_ROWS, "loss (valid)")
    report = tensorboard.import_directory(logs, connection_to(broker, tmp_path))
    ids = runs_of(logs)
    assert sorted(report.new) == ["a/train", "a/valid"] and not report.left_out
    events = log_of(broker, ids["a/train"])
    assert_complete(events)
    assert series(events) == {"loss": packed_all(float32(many))}
    started, ended = bodies(events, RunStarted)[0], bodies(events, RunEnded)[0]
    assert (started.name, started.experiment_name) == ("a/train", "logs")
    assert started.start_time == 1_600_000_000_000 and ended.status == "FINISHED"
    found = series(log_of(broker, ids["a/valid"]))
    assert list(found.values()) == [packed_all(float32(HOSTILE_ROWS))]


def test_tensors_hparams_texts_and_images_of_tensorflow_2_and_of_pytorch(broker: BrokerProcess, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with SummaryWriter(str(logs)) as writer:
        writer.add_hparams({"rate": 0.1, "opt": "adam", "flag": True, "layers": 3}, {"best": 0.5}, name="trial")
        writer.add_text("notes", "hello *you*", 2, walltime=1_600_000_000)
        writer.add_image("sample", np.zeros((3, 4, 5), np.uint8), 7, walltime=1_600_000_001)
        writer.add_histogram("weights", np.arange(10.0), 1)
    keras = EventFileWriter(str(logs / "keras"))
    for step, timestamp, value in HOSTILE_ROWS:
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars")) if step == 0 else None
        tensor = make_tensor_proto(np.float64(value)) if step == 3 else make_tensor_proto(np.float32(value))
        parts = [
            Summary.Value(
                tag="epoch_loss", tensor=TensorProto.FromString(tensor.SerializeToString()), metadata=metadata
            )
        ]
        keras.add_event(Event(step=step, wall_time=timestamp / 1000, summary=Summary(value=parts)))
    keras.close()
    report = tensorboard.import_directory(logs, connection_to(broker, tmp_path))
    ids = runs_of(logs)
    assert [left_out.what for _, left_out in report.left_out] == ["1 histograms"]
    expected = [
        (step, timestamp, value if step == 3 else float(np.float32(value))) for step, timestamp, value in HOSTILE_ROWS
    ]
    assert series(log_of(broker, ids["keras"])) == {"epoch_loss": packed_all(expected)}
    trial = log_of(broker, ids["trial"])
    assert bodies(trial, ParamsLogged)[0].params == {"rate": "0.1", "opt": "adam", "flag": "True", "layers": "3"}
    assert list(series(trial)) == ["best"]
    artifacts = {artifact.path: artifact for artifact in bodies(log_of(broker, ids["logs"]), ArtifactLogged)}
    (image,) = [path for path in artifacts if path.startswith("images/sample%step%7%timestamp%1600000001000%")]
    stored = tmp_path / "artifacts" / ids["logs"] / "artifacts"
    assert (stored / image).read_bytes().startswith(b"\x89PNG")
    assert json.loads((stored / "text" / "notes.jsonl").read_text()) == {
        "step": 2,
        "time": 1_600_000_000_000,
        "text": "hello *you*",
    }


def test_a_running_job_s_directory_adds_what_is_new(broker: BrokerProcess, tmp_path: Path) -> None:
    logs, here = tmp_path / "logs", connection_to(broker, tmp_path)
    rows = [(step, 1_600_000_000_000 + step, float(step)) for step in range(12_000)]
    writer = EventFileWriter(str(logs))
    total = 0
    for part in (rows[:1], rows[1:5_000], [], rows[5_000:]):
        for row in part:
            writer.add_event(scalar(row))
        writer.flush()
        report = tensorboard.import_directory(logs, here)
        total += report.points
        assert report.points == len(part) and bool(report.unchanged) == (not part)
    writer.close()
    again = EventFileWriter(str(logs), filename_suffix=".restarted")  # another file of the same run
    again.add_event(scalar((1, 1_600_000_100_000, 1.0)))
    again.close()
    assert tensorboard.import_directory(logs, here).points == 1
    events = log_of(broker, runs_of(logs)["logs"])
    assert_complete(events)
    assert total == 12_000 and series(events) == {"loss": packed_all([*rows, (1, 1_600_000_100_000, 1.0)])}
    assert max(ended.end_time for ended in bodies(events, RunEnded)) == 1_600_000_100_000


def test_damaged_event_files_give_what_is_whole_and_say_the_rest(broker: BrokerProcess, tmp_path: Path) -> None:
    logs, here = tmp_path / "logs", connection_to(broker, tmp_path)
    rows = [(step, 1_600_000_000_000 + step, float(step)) for step in range(100)]
    for name in ("torn", "flipped"):
        write_scalars(logs / name, rows)
    (torn,), (flipped,) = ((logs / name).iterdir() for name in ("torn", "flipped"))
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-5])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    for name, content in {"empty": b"", "noise": os.urandom(500), "cut": whole[:20]}.items():
        (logs / name).mkdir()
        (logs / name / "events.out.tfevents.1.x").write_bytes(content)
    (logs / "linked").mkdir()
    (logs / "linked" / "events.out.tfevents.1.y").symlink_to(tmp_path / "outside")
    report = tensorboard.import_directory(logs, here)
    assert sorted(report.new) == ["flipped", "torn"]
    said = {label or left_out.what: left_out.why for label, left_out in report.left_out}
    assert said.keys() == {"torn", "flipped", "run 'empty'", "run 'noise'", "run 'cut'", "run 'linked'"}
    assert "ends within the record" in said["torn"] and "wrong checksum" in said["flipped"]
    ids = runs_of(logs)
    assert series(log_of(broker, ids["torn"]))["loss"] == packed_all(rows[:-1])
    torn.write_bytes(whole)  # the writer went on
    assert tensorboard.import_directory(logs, here).points == 1
    assert series(log_of(broker, ids["torn"]))["loss"] == packed_all(rows)
    with pytest.raises(InvalidRequest, match="no event file"):
        tensorboard.import_directory(here.spool, here)


def test_a_tensor_whose_shape_says_more_than_it_holds_is_left_out_and_not_made(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path / "logs"))
    for step, sizes in enumerate([[], [1, 1], [1 << 40], [1, 1 << 30]]):
        tensor = TensorProto(dtype=1, float_val=[0.5])
        for size in sizes:
            tensor.tensor_shape.dim.add(size=size)
        value = Summary.Value(tag="loss", tensor=tensor)
        value.metadata.plugin_data.plugin_name = "scalars"
        writer.add_event(Event(step=step, wall_time=1.6e9 + step, summary=Summary(value=[value])))
    writer.close()
    report = tensorboard.import_directory(tmp_path / "logs", connection_to(None, tmp_path))
    assert report.points == 2 and not any("cannot be" in left_out.why for _, left_out in report.left_out)
    assert [left_out.what for _, left_out in report.left_out] == ["2 scalars"]


WANDB_JOB = """
import math, sys, wandb
run = wandb.init(project="vision", name="swift", dir=sys.argv[1], config={"rate": 0.1, "opt": {"name": "adam"}},
                 tags=["a"], notes="a note", group="g", job_type="train", mode="offline")
for step in range(3000):
    run.log({"loss": 1 / (step + 1), "acc": math.nan if step == 3 else step, "deep": {"x": step}}, step=2 * step)
run.log({"inf": -math.inf, "text": "words"})
run.log({"image": wandb.Image(__import__("numpy").zeros((4, 4, 3), "uint8"))})
run.config.update({"late": [1, 2]})
run.summary["best"] = 0.25
run.finish(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def wandb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An offline run of the real client."""
    folder = tmp_path_factory.mktemp("wandb")
    subprocess.run([sys.executable, "-c", WANDB_JOB, folder, "0"], check=True, capture_output=True, timeout=150)
    return folder


def test_a_wandb_offline_run_arrives_point_for_point(broker: BrokerProcess, wandb_folder: Path, tmp_path: Path) -> None:
    here = connection_to(broker, tmp_path)
    report = wandb.import_export(wandb_folder, here)
    assert wandb.import_export(wandb_folder, here).unchanged == report.new
    (run,) = wandb.Export(wandb_folder).runs()
    assert isinstance(run, SourceRun)
    events = log_of(broker, run.run_id)
    assert_complete(events)
    found = {key: points for key, points in series(events).items() if not key.startswith("system/")}
    assert found.keys() == {"loss", "acc", "deep.x", "inf"}
    values = {key: _values(points) for key, points in found.items()}
    assert values["loss"] == [(2 * step, 1 / (step + 1)) for step in range(3000)]
    assert values["deep.x"] == [(2 * step, step) for step in range(3000)]
    assert math.isnan(dict(values["acc"])[6]) and len(values["acc"]) == 3000
    assert [value for _, value in values["inf"]] == [-math.inf]
    (started,), (ended,) = bodies(events, RunStarted), bodies(events, RunEnded)
    assert (started.name, started.experiment_name, ended.status) == ("swift", "vision", "FINISHED")
    assert 0 < started.start_time <= min(_times(found["loss"])) <= max(_times(found["loss"])) <= ended.end_time
    params = bodies(events, ParamsLogged)[0].params
    assert params == {"rate": "0.1", "opt.name": "adam", "late": "[1, 2]"}
    tags = bodies(events, TagsSet)[0].tags
    assert tags["mlflow.note.content"] == "a note" and tags["wandb.tags"] == '["a"]' and tags["wandb.group"] == "g"
    assert tags["wandb.summary.best"] == "0.25"
    assert any(artifact.path.startswith("media/images/") for artifact in bodies(events, ArtifactLogged))
    assert {"1 values of 'text' (str)", "1 values of 'image' (image-file)"} <= _said(report)


def test_a_wandb_log_outside_of_a_run_s_folder_takes_no_files(wandb_folder: Path, tmp_path: Path) -> None:
    (log,) = wandb_folder.rglob("*.wandb")
    shutil.copy(log, tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "payroll.xls").write_text("secret")
    report = wandb.import_export(tmp_path / log.name, connection_to(None, tmp_path))
    assert len(report.new) == 1 and report.artifacts == 0
    assert any("payroll" not in what and "files in" in what for what in _said(report))


def test_a_wandb_log_that_still_grows(wandb_folder: Path, tmp_path: Path) -> None:
    with broker_with_topics(tmp_path / "broker") as broker:  # which has not had the run whole
        grow(broker, wandb_folder, tmp_path)


def grow(broker: BrokerProcess, wandb_folder: Path, tmp_path: Path) -> None:
    here = connection_to(broker, tmp_path)
    (log,) = find_logs(wandb_folder)
    whole = log.read_bytes()
    growing = tmp_path / "wandb" / "offline-run-1-x" / "run-x.wandb"
    growing.parent.mkdir(parents=True)
    total = 0
    for size in (len(whole) // 3, len(whole) // 2, len(whole)):
        growing.write_bytes(whole[:size])
        report = wandb.import_export(tmp_path / "wandb", here)
        total += report.points
        assert bool(report.left_out) and (
            size == len(whole) or any("ends within" in part.why for _, part in report.left_out)
        )
    (run,) = wandb.Export(growing).runs()
    assert isinstance(run, SourceRun)
    found = series(log_of(broker, run.run_id))
    assert sum(map(len, found.values())) == total
    assert _values(found["loss"]) == [(2 * step, 1 / (step + 1)) for step in range(3000)]


def test_a_damaged_wandb_log_gives_what_is_whole(wandb_folder: Path, tmp_path: Path) -> None:
    whole = find_logs(wandb_folder)[0].read_bytes()
    growing = tmp_path / "run-x.wandb"
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    growing.write_bytes(damaged)
    report = wandb.import_export(growing, connection_to(None, tmp_path / "other"))
    assert any("wrong checksum" in part.why for _, part in report.left_out) and report.points
    growing.write_bytes(b"no log at all")
    report = wandb.import_export(growing, connection_to(None, tmp_path / "third"))
    assert not report.new and "does not begin" in report.left_out[0][1].why


MLFLOW_JOB = """
import sys, mlflow, numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("digits")
with mlflow.start_run(run_name="parent", description="a note") as run:
    mlflow.log_params({"rate": 0.1})
    for step in range(50):
        mlflow.log_metric("loss", 1 / (step + 1), step=step, timestamp=1600000000000 + step)
    mlflow.log_metric("odd", float("nan"), step=-1, timestamp=1600000000000)
    mlflow.log_metric("odd", float("inf"), step=-1, timestamp=1600000000000)
    mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="table"), context="training")
    mlflow.log_text("hi", "notes/x.txt")
    mlflow.sklearn.log_model(LogisticRegression().fit([[0], [1]], [0, 1]), name="model")
    with mlflow.start_run(nested=True) as child:
        mlflow.log_metric("m", 1)
print(run.info.run_id, child.info.run_id)
"""


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_what_mlflow_wrote_arrives(broker: BrokerProcess, tmp_path: Path, kind: str) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db" if kind == "sqlite" else (tmp_path / "mlruns").as_uri()
    ran = subprocess.run(
        [sys.executable, "-c", MLFLOW_JOB, uri],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    parent, child = ran.stdout.split()[-2:]
    here = connection_to(broker, tmp_path)
    report = import_store(tmp_path, here)
    assert sorted(report.new) == sorted([parent, child]) and not report.left_out
    assert sorted(import_store(tmp_path, here).unchanged) == sorted([parent, child])
    events = log_of(broker, parent)
    assert_complete(events)
    found = series(events)
    rows = [(step, 1_600_000_000_000 + step, 1 / (step + 1)) for step in range(50)]
    if kind == "file":  # its log_model logs a metric's first point again
        (file,) = (tmp_path / "mlruns").glob(f"*/{parent}/metrics/loss")
        rows += rows[:1] * (len(file.read_text().splitlines()) - 50)
    assert found["loss"] == packed_all(rows)
    assert found["odd"] == packed_all([(-1, 1_600_000_000_000, value) for value in (math.nan, math.inf)])
    assert bodies(events, InputsLogged)[0].datasets[0].name == "table"
    assert bodies(events, TagsSet)[0].tags["mlflow.note.content"] == "a note"
    (model,) = bodies(events, ModelLogged)
    assert model.name == "model" and "sklearn" in model.flavors and model.model_id.startswith("m-")
    assert {"notes/x.txt", "models/model/MLmodel"} <= {artifact.path for artifact in bodies(events, ArtifactLogged)}
    (started,) = bodies(read_log(broker.address, child), RunStarted)
    assert started.parent_run_id == parent


def _said(report: ImportReport) -> set[str]:
    return {left_out.what for _, left_out in report.left_out}


def _values(points: list[bytes]) -> list[tuple[int, Any]]:
    rows = np.frombuffer(b"".join(points), np.dtype([("step", "<i8"), ("time", "<i8"), ("value", "<f8")]))
    return sorted(zip(rows["step"].tolist(), rows["value"].tolist(), strict=True))


def _times(points: list[bytes]) -> list[int]:
    rows = np.frombuffer(b"".join(points), np.dtype([("step", "<i8"), ("time", "<i8"), ("value", "<f8")]))
    return [int(time) for time in rows["time"]]
