"""Runs that MLflow starts, ends, deletes and takes up, as they lie in the spool."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import (
    Metric,
)

from runtide.mlflow_plugin.tracking_store import RuntideTrackingStore
from runtide_schemas.events.runs import (
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunStarted,
    RunUpdated,
    WriterClosed,
    WriterOpened,
)
from tests.unit.mlflow_plugin.spooled import events, points, refused


def test_what_mlflow_says_of_a_run_is_kept(client: MlflowClient, tmp_path: Path) -> None:
    tags = {"mlflow.user": "ada", "mlflow.source.name": "train.py", "mlflow.source.type": "JOB", "team": "blue"}
    tags |= {"mlflow.source.git.commit": "c0ffee", "mlflow.parentRunId": "a" * 32}
    run = client.create_run("0", start_time=123_000, tags=tags, run_name="first")
    client.set_terminated(run.info.run_id, "FAILED", end_time=456_000)
    (started,) = events(tmp_path, RunStarted)
    assert (started.run_id, started.name, started.user, started.start_time) == (
        run.info.run_id,
        "first",
        "ada",
        123_000,
    )
    assert (started.source_name, started.source_type, started.source_version) == ("train.py", "JOB", "c0ffee")
    assert (started.parent_run_id, started.experiment_id) == ("a" * 32, "0")
    assert started.tags == {**tags, "mlflow.runName": "first"}
    assert (
        started.artifact_uri
        == run.info.artifact_uri
        == f"{(tmp_path / 'artifacts').as_uri()}/{run.info.run_id}/artifacts"
    )
    (ended,) = events(tmp_path, RunEnded)
    assert (ended.status, ended.end_time) == ("FAILED", 456_000)
    (closed,) = events(tmp_path, WriterClosed)
    assert closed.counts["runtide.runs"] == 4
    read = client.get_run(run.info.run_id)
    assert (read.info.status, read.info.start_time, read.info.end_time) == ("FAILED", 123_000, 456_000)
    assert read.data.tags == {**tags, "mlflow.runName": "first"}


def test_a_run_without_a_name_gets_one_and_can_be_renamed(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    first = client.get_run(run_id).info.run_name
    assert first is not None and first.count("-") == 2
    client.update_run(run_id, name="second")
    client.set_tag(run_id, "mlflow.runName", "third")
    read = client.get_run(run_id)
    assert (read.info.run_name, read.data.tags["mlflow.runName"]) == ("third", "third")
    assert [body.name for body in events(tmp_path, RunUpdated) if body.name] == ["second", "third"]
    with refused("INVALID_PARAMETER_VALUE", "different values"):
        client.create_run("0", run_name="a", tags={"mlflow.runName": "b"})


def test_a_deleted_run_takes_nothing_until_it_is_restored(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    client.delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    with refused("INVALID_PARAMETER_VALUE", "must be in 'active' lifecycle_stage"):
        client.log_param(run_id, "p", 1)
    client.restore_run(run_id)
    client.log_param(run_id, "p", 1)
    assert len(events(tmp_path, RunDeleted)) == 1


def test_what_comes_after_the_end_is_another_writers(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    client.log_metric(run_id, "m", 1.0, step=1, timestamp=1)
    client.set_terminated(run_id)
    client.log_metric(run_id, "m", 2.0, step=2, timestamp=2)
    client.set_tag(run_id, "t", "late")
    read = client.get_run(run_id)
    assert (read.info.status, read.data.metrics["m"], read.data.tags["t"]) == ("FINISHED", 2.0, "late")
    assert len(events(tmp_path, WriterOpened)) == 2
    assert len(events(tmp_path, RunEnded)) == 1
    assert {value for _, _, value in points(tmp_path, "m")} == {1.0, 2.0}


def test_a_run_can_be_taken_up_again(fluent: str, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1.0)
    with mlflow.start_run(run_id=run.info.run_id) as again:
        assert again.info.status == "RUNNING"
        mlflow.log_metric("m", 2.0, step=1)
    assert [body.status for body in events(tmp_path, RunUpdated)] == ["RUNNING"]
    assert [body.status for body in events(tmp_path, RunEnded)] == ["FINISHED", "FINISHED"]
    assert mlflow.get_run(run.info.run_id).data.metrics == {"m": 2.0}


def test_an_exception_in_a_run_is_its_failure(fluent: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), mlflow.start_run(), mlflow.start_run(nested=True):
        raise ZeroDivisionError
    assert [body.status for body in events(tmp_path, RunEnded)] == ["FAILED", "FAILED"]
    parents = {body.run_id: body.parent_run_id for body in events(tmp_path, RunStarted)}
    assert sorted(map(bool, parents.values())) == [False, True]
    assert {parent for parent in parents.values() if parent} < set(parents)


@pytest.mark.slow
def test_many_ended_runs_do_not_keep_their_files_open(
    client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(100):
        run_id = client.create_run("0").info.run_id
        client.log_param(run_id, "number", number)
        client.set_terminated(run_id)
        client.log_param(run_id, "late", number)
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 64 * 12
    assert capsys.readouterr().err.count("runtide sync") >= 100 + 100 - 64 - 32 - 1
    logged = [key for body in events(tmp_path, ParamsLogged) for key in body.params]
    assert (logged.count("number"), logged.count("late")) == (100, 100)
    assert len(events(tmp_path, RunEnded)) == 100


def test_a_run_of_another_process_is_joined_with_nobody_to_ask(
    client: MlflowClient, run_id: str, tmp_path: Path, uri: str
) -> None:
    client.set_tag(run_id, "team", "blue")
    other = RuntideTrackingStore(uri)  # knows nothing of the run, as in another process
    seen = other.get_run(run_id)
    assert seen.info.artifact_uri == client.get_run(run_id).info.artifact_uri
    assert (seen.info.status, seen.info.run_name) == ("RUNNING", client.get_run(run_id).info.run_name)
    other.log_metric(run_id, Metric("m", 1.0, 5, 0))
    assert other.get_run(run_id).data.metrics == {"m": 1.0}
    unheard = other.get_run("f" * 32)
    assert (unheard.info.status, unheard.info.run_id) == ("RUNNING", "f" * 32)
    assert [body.status for body in events(tmp_path, RunEnded)] == []
