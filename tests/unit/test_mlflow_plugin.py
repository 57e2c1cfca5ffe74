"""What MLflow's client logs through our store, offline, read from the spool; and what it reads back."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.abstract_store import AbstractStore

from runtide.mlflow_plugin import gateway
from runtide.mlflow_plugin.address import read_address
from runtide.mlflow_plugin.experiments import name_in, provisional_id
from runtide.mlflow_plugin.memory import KEPT_POINTS
from runtide.mlflow_plugin.model_tags import models_in, outputs_in
from runtide.mlflow_plugin.registry_store import RuntideRegistryStore
from runtide.mlflow_plugin.tracking_store import RuntideTrackingStore
from runtide.mlflow_plugin.unsupported import USED_AS_THEY_ARE
from runtide.spool.export import exported
from runtide.sync import find_spools
from runtide.tracking.process import end_open_runs
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ModelLogged,
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunStarted,
    RunUpdated,
    TagsSet,
    WriterClosed,
    WriterOpened,
)


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for variable in ("RUNTIDE_GATEWAY", "RUNTIDE_BROKER", "RUNTIDE_KAFKA_BOOTSTRAP", "RUNTIDE_ARTIFACTS"):
        monkeypatch.delenv(variable, raising=False)
    yield f"runtide:offline?spool={tmp_path}/spool&artifacts={tmp_path}/artifacts&data={tmp_path}/none"
    end_open_runs()


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def fluent(uri: str) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


def events(tmp_path: Path, kind: type[Any]) -> list[Any]:
    """Return the bodies of one type that lie in the spool, writer by writer."""
    every = exported(find_spools([tmp_path / "spool"]))
    return [event.body for event in every if isinstance(event.body, kind)]


def points(tmp_path: Path, key: str) -> list[tuple[int, int, float]]:
    """Return (step, timestamp, value) of a metric's points in the order of the spool."""
    found = []
    for body in events(tmp_path, MetricsLogged):
        rows = zip(
            body.key_index.tolist(), body.step.tolist(), body.timestamp.tolist(), body.value.tolist(), strict=True
        )
        found += [(step, at, value) for index, step, at, value in rows if body.keys[index] == key]
    return found


def refused(code: str, match: str = "") -> Any:
    """Expect MLflow's exception with a code."""

    class Expecting:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert isinstance(error, MlflowException), f"expected MlflowException {code}, got {error!r}"
            assert error.error_code == code, error
            assert match in str(error)
            return True

    return Expecting()


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


def test_points_are_kept_as_they_are(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    given = [(5, 10, 1.5), (7, 8, 0.25), (3, 11, math.inf), (-2, 9, -math.inf), (5, 10, 1.5)]
    for step, at, value in given:
        client.log_metric(run_id, "m", value, timestamp=at, step=step)
    client.log_metric(run_id, "n", math.nan)
    client.set_terminated(run_id)
    assert points(tmp_path, "m") == given
    assert math.isnan(points(tmp_path, "n")[0][2])
    history = client.get_metric_history(run_id, "m")
    assert [(found.timestamp, found.step, found.value) for found in history] == sorted(
        (at, step, value) for step, at, value in given
    )
    read = client.get_run(run_id).data.metrics
    assert read["m"] == 0.25, "the latest is that of the greatest step"
    assert math.isnan(read["n"])


def test_only_the_newest_points_are_remembered_and_all_are_logged(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    many = 3 * KEPT_POINTS
    for start in range(0, many, 1000):
        client.log_batch(run_id, metrics=[Metric("m", step / 4, step, step) for step in range(start, start + 1000)])
    client.set_terminated(run_id)
    assert len(points(tmp_path, "m")) == many
    kept = client.get_metric_history(run_id, "m")
    assert [found.step for found in kept] == list(range(many - KEPT_POINTS, many))


def test_the_first_value_of_a_param_stays_and_a_clash_is_recorded(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    client.log_param(run_id, "p", 1)
    client.log_param(run_id, "p", 1)
    with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed. Param with key='p'"):
        client.log_param(run_id, "p", 2)
    with refused("INVALID_PARAMETER_VALUE", "already logged with value='1'"):
        client.log_batch(run_id, params=[Param("q", "9"), Param("p", "3")], tags=[RunTag("t", "v")])
    assert client.get_run(run_id).data.params == {"p": "1"}
    assert "t" not in client.get_run(run_id).data.tags, "nothing else of a batch that clashes is logged"
    assert [dict(body.params) for body in events(tmp_path, ParamsLogged)] == [{"p": "1"}, {"p": "2"}, {"p": "3"}]


def test_long_values_are_cut_as_mlflow_does_or_refused(
    client: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.log_param(run_id, "p", "x" * 7_000)
    client.set_tag(run_id, "t", "y" * 9_000)
    read = client.get_run(run_id).data
    assert (len(read.params["p"]), len(read.tags["t"])) == (6_000, 8_000)
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    with refused("INVALID_PARAMETER_VALUE", "exceeds the maximum length of 6000"):
        client.log_param(run_id, "q", "x" * 7_000)


def test_what_cannot_be_logged_is_refused_with_mlflows_codes(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    with refused("INVALID_PARAMETER_VALUE", "Names may only contain"):
        client.log_metric(run_id, "a$b", 1.0)
    with refused("INVALID_PARAMETER_VALUE", "nonnegative"):
        client.log_metric(run_id, "m", 1.0, timestamp=-1)
    with refused("INVALID_PARAMETER_VALUE", "64 bits"):
        client.log_metric(run_id, "m", 1.0, step=2**64)
    with refused("INVALID_PARAMETER_VALUE", "NUL"):
        client.set_tag(run_id, "t", "a\x00b")
    with refused("INVALID_PARAMETER_VALUE", "Duplicate parameter keys"):
        client.log_batch(run_id, params=[Param("a", "1"), Param("a", "2")])
    with refused("INVALID_PARAMETER_VALUE", "at most 1000 metrics"):
        store = RuntideTrackingStore(client.tracking_uri)
        store.log_batch(run_id, [Metric("m", 1.0, 1, 1)] * 1001, [], [])
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_metric("no run id!", "m", 1.0)
    with refused("RESOURCE_DOES_NOT_EXIST", "No tag with name: x"):
        client.delete_tag(run_id, "x")
    assert events(tmp_path, MetricsLogged) == []


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


@given(st.text(min_size=1, max_size=200).filter(lambda name: name.isprintable() and name.strip()))
def test_an_experiment_without_a_number_is_called_by_its_name(name: str) -> None:
    encoded = provisional_id(name)
    assert name_in(encoded) == name
    assert encoded.replace("-", "").replace("_", "").isalnum() and encoded.isascii()


def test_offline_a_run_carries_the_name_of_its_experiment(fluent: str, tmp_path: Path) -> None:
    name = "Kröte & Frosch / " + "x" * 300
    experiment = mlflow.set_experiment(name)
    with mlflow.start_run() as run:
        assert run.info.experiment_id == experiment.experiment_id
    again = mlflow.get_experiment_by_name(name)
    assert again is not None and again.experiment_id == experiment.experiment_id
    (started,) = events(tmp_path, RunStarted)
    requests = [
        event for event in exported(find_spools([tmp_path / "spool"])) if isinstance(event.body, CreateExperiment)
    ]
    assert (started.experiment_id, started.experiment_name) == ("", name)
    assert started.experiment_request in {event.texts["id"] for event in requests}
    asked = events(tmp_path, CreateExperiment)
    assert {(body.name, body.if_exists) for body in asked} == {(name, "resolve")}
    with refused("RESOURCE_ALREADY_EXISTS", "already exists"):
        mlflow.create_experiment(name)
    with refused("INVALID_STATE", "has no number yet"):
        MlflowClient().delete_experiment(experiment.experiment_id)


def test_the_default_experiment_is_always_there(client: MlflowClient) -> None:
    assert client.get_experiment("0").name == "Default"
    default = client.get_experiment_by_name("Default")
    assert default is not None and default.experiment_id == "0"
    assert client.get_experiment_by_name("nobody made this") is None
    with refused("INVALID_PARAMETER_VALUE", "must be a valid integer"):
        client.create_run("abc")
    with refused("TEMPORARILY_UNAVAILABLE", "only a gateway can answer this"):
        client.get_experiment("7")


def test_an_experiments_place_is_that_of_its_runs_artifacts(client: MlflowClient, tmp_path: Path) -> None:
    place = (tmp_path / "elsewhere").as_uri()
    experiment_id = client.create_experiment("placed", artifact_location=place, tags={"k": "v"})
    assert client.get_experiment(experiment_id).tags == {"k": "v"}
    run = client.create_run(experiment_id)
    assert run.info.artifact_uri == f"{place}/{run.info.run_id}/artifacts"
    (request,) = [body for body in events(tmp_path, CreateExperiment) if body.artifact_location]
    assert (request.artifact_location, request.tags) == (place, {"k": "v"})


def test_inputs_and_outputs_come_back(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    dataset = Dataset("digits", "d1", "local", "{}", schema='{"a": "long"}', profile="{}")
    context = [InputTag("mlflow.data.context", "training")]
    models = [LoggedModelInput("m-1")]
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, context)], models=models)
    client.log_outputs(run_id, models=[LoggedModelOutput("m-2", step=3)])
    (logged,) = [dataset for body in events(tmp_path, InputsLogged) for dataset in body.datasets]
    assert (logged.name, logged.digest, logged.schema) == ("digits", "d1", '{"a": "long"}')
    assert logged.tags == {"mlflow.data.context": "training"}
    read = client.get_run(run_id)
    assert read.inputs is not None and read.outputs is not None
    assert read.inputs.dataset_inputs == [DatasetInput(dataset, context)]
    assert read.inputs.model_inputs == models
    assert read.outputs.model_outputs == [LoggedModelOutput("m-2", step=3)]
    assert [key for key in read.data.tags if key.startswith("runtide.")] == []
    with refused("INVALID_PARAMETER_VALUE", "exceeds the maximum length of 500"):
        client.log_inputs(run_id, datasets=[DatasetInput(Dataset("x" * 501, "d", "local", "{}"))])


def a_model_directory(folder: Path) -> Path:
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: mine\nmodel_uuid: abc\n")
    (folder / "data").mkdir()
    (folder / "data" / "weights.bin").write_bytes(b"12345")
    return folder


def test_a_logged_model_is_announced_with_its_files(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    params = {f"p{number}": "v" * 500 for number in range(60)}
    model = client.create_logged_model("0", name="net", source_run_id=run_id, params=params, tags={"a": "b"})
    assert model.status == LoggedModelStatus.PENDING
    client.log_model_artifacts(model.model_id, str(a_model_directory(tmp_path / "model")))
    client.log_metric(run_id, "acc", 0.5, step=4, timestamp=9, model_id=model.model_id)
    client.set_logged_model_tags(model.model_id, {"c": "d"})
    client.delete_logged_model_tag(model.model_id, "a")
    client.log_model_params(model.model_id, {"late": "1"})
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    (logged,) = events(tmp_path, ModelLogged)
    assert (logged.model_id, logged.name, logged.flavors, logged.uri) == (
        model.model_id,
        "net",
        ("python_function",),
        model.artifact_location,
    )
    files = {body.path: body.size for body in events(tmp_path, ArtifactLogged)}
    assert files[f"models/{model.model_id}/data/weights.bin"] == 5
    tags = {key: value for body in events(tmp_path, TagsSet) for key, value in body.tags.items()}
    ((read, deleted),) = models_in(tags, run_id, "0")
    assert not deleted
    assert read.to_dictionary() == client.get_logged_model(model.model_id).to_dictionary()
    assert (read.status, read.tags, len(read.params)) == (LoggedModelStatus.READY, {"c": "d"}, 61)
    assert [(found.key, found.value, found.step) for found in read.metrics or ()] == [("acc", 0.5, 4)]
    client.delete_logged_model(model.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        client.get_logged_model(model.model_id)


def test_a_model_outside_of_any_run_gets_one(client: MlflowClient, tmp_path: Path) -> None:
    model = client.create_logged_model("0", name="alone")
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    (started,) = events(tmp_path, RunStarted)
    assert (started.run_id, started.name) == (model.source_run_id, "alone")
    assert [body.status for body in events(tmp_path, RunEnded)] == ["FINISHED"]


def test_artifacts_are_announced_with_their_digest(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    file = tmp_path / "note é.txt"
    file.write_bytes(b"abc")
    client.log_artifact(run_id, str(file), "some/where")
    client.log_dict(run_id, {"a": 1}, "config.json")
    client.log_artifacts(run_id, str(a_model_directory(tmp_path / "folder")), "f")
    facts = {body.path: body for body in events(tmp_path, ArtifactLogged)}
    assert set(facts) == {"some/where/note é.txt", "config.json", "f/MLmodel", "f/data/weights.bin"}
    note = facts["some/where/note é.txt"]
    assert note.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (note.size, note.content_type, facts["config.json"].content_type) == (3, "text/plain", "application/json")
    assert [found.path for found in client.list_artifacts(run_id, "some/where")] == ["some/where/note é.txt"]
    assert note.uri.endswith("/some/where/note%20%C3%A9.txt")
    assert events(tmp_path, ModelLogged) == [], "a directory with an MLmodel that is no logged model's place"


def test_threads_log_into_one_run(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    def work(number: int) -> None:
        for step in range(200):
            client.log_metric(run_id, f"m{number}", step / 2, step=step, timestamp=step)
            if step % 50 == 0:
                client.log_param(run_id, f"p{number}.{step}", step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.set_terminated(run_id)
    for number in range(6):
        assert points(tmp_path, f"m{number}") == [(step, step, step / 2) for step in range(200)]
    assert len(client.get_run(run_id).data.params) == 24


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


def test_mlflows_asynchronous_logging_works_too(fluent: str, tmp_path: Path) -> None:
    with mlflow.start_run():
        for step in range(50):
            mlflow.log_metric("m", step, step=step, synchronous=False)
    assert sorted(step for step, _, _ in points(tmp_path, "m")) == list(range(50))


@pytest.mark.parametrize(
    "name",
    sorted(name for name in dir(AbstractStore) if not name.startswith("_") and callable(getattr(AbstractStore, name))),
)
def test_every_method_of_mlflows_store_is_ours_or_says_that_it_is_not_here(uri: str, name: str) -> None:
    store = RuntideTrackingStore(uri)
    method = getattr(type(store), name)
    if name in USED_AS_THEY_ARE or method.__module__ != "runtide.mlflow_plugin.unsupported":
        assert name in USED_AS_THEY_ARE or method.__module__.startswith("runtide.mlflow_plugin.")
        assert name not in {"start_trace", "register_scorer", "create_mcp_server", "create_gateway_secret"}
        return
    with refused("NOT_IMPLEMENTED", f"has no {name}"):
        method(store)


def test_what_is_needed_of_mlflows_store_is_not_refused() -> None:
    needed = {
        "create_experiment", "create_logged_model", "create_run", "delete_experiment", "delete_experiment_tag",
        "delete_logged_model", "delete_logged_model_tag", "delete_run", "delete_tag", "finalize_logged_model",
        "get_experiment", "get_experiment_by_name", "get_logged_model", "get_metric_history", "get_run", "log_batch",
        "log_inputs", "log_metric", "log_outputs", "log_param", "record_logged_model", "rename_experiment",
        "restore_experiment", "restore_run", "search_experiments", "search_logged_models", "search_runs",
        "set_experiment_tag", "set_logged_model_tags", "set_tag", "update_run_info",
    }  # fmt: skip
    refusing = {name for name in needed if getattr(RuntideTrackingStore, name).__module__.endswith("unsupported")}
    assert refusing == set()


def test_without_a_gateway_questions_say_what_is_missing(client: MlflowClient) -> None:
    for ask in (
        lambda: client.search_runs(["0"]),
        client.search_experiments,
        lambda: client.get_logged_model("m-" + "0" * 32),
    ):
        with refused("TEMPORARILY_UNAVAILABLE", "RUNTIDE_GATEWAY"):
            ask()


def test_the_address_says_where_the_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (
        "RUNTIDE_GATEWAY",
        "RUNTIDE_BROKER",
        "RUNTIDE_KAFKA_BOOTSTRAP",
        "RUNTIDE_ARTIFACTS",
        "RUNTIDE_SPOOL",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("RUNTIDE_DATA", str(tmp_path))
    named = read_address("runtide://broker.example.org:9092,second:9092?gateway=http://g:1").connection
    assert (named.broker, named.gateway, named.offline) == ("broker.example.org:9092,second:9092", "http://g:1", False)
    offline = read_address(f"runtide:offline?spool={tmp_path}/s").connection
    assert (offline.broker, offline.spool, offline.offline) == ("", tmp_path / "s", True)
    assert read_address("runtide://h:1", "s3://bucket/x").connection.artifacts == "s3://bucket/x"
    for wrong in ("runtide://h:1/path", "runtide:onlnie", "runtide://h:1?gatway=x", "kafka://h:1"):
        with pytest.raises(InvalidRequest):
            read_address(wrong)


def test_another_broker_is_not_asked_through_this_machines_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtide.connection import StackFile

    monkeypatch.setenv("RUNTIDE_DATA", str(tmp_path))
    for variable in (
        "RUNTIDE_GATEWAY",
        "RUNTIDE_BROKER",
        "RUNTIDE_KAFKA_BOOTSTRAP",
        "RUNTIDE_ARTIFACTS",
        "RUNTIDE_SPOOL",
    ):
        monkeypatch.delenv(variable, raising=False)
    stack = StackFile(broker="h:1", gateway="http://g:1", artifacts="file:///a", pid=1, started_at=1)
    stack.write(tmp_path)
    same, other = read_address("runtide://h:1").connection, read_address("runtide://h:2").connection
    assert (same.gateway, same.artifacts) == ("http://g:1", "file:///a")
    assert (other.gateway, other.artifacts) == ("", (tmp_path / "spool" / "artifacts").as_uri())


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


def test_tags_that_cannot_be_read_poison_nothing(client: MlflowClient, run_id: str) -> None:
    for key in ("runtide.mlflow.output.m", "runtide.mlflow.model.m-1"):
        with refused("INVALID_PARAMETER_VALUE", "kept for logged models"):
            client.set_tag(run_id, key, "abc")
        with refused("INVALID_PARAMETER_VALUE", "kept for logged models"):
            client.log_batch(run_id, tags=[RunTag(key, "abc")])
        with refused("INVALID_PARAMETER_VALUE", "kept for logged models"):
            client.create_run("0", tags={key: "abc"})
    tags = {"runtide.mlflow.output.m": "abc", "runtide.mlflow.output.n": "3", "runtide.mlflow.model.m-1": '2 {"name"'}
    tags |= {"runtide.mlflow.model.m-2": "1 []", "runtide.mlflow.model.m-3": "x"}
    assert outputs_in(tags) == [("n", 3)]
    assert list(models_in(tags, run_id, "0")) == []


def test_a_gateway_that_hangs_is_waited_for_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        asked = gateway.Gateway(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for longest in (2.0, 0.1, 0.1):
            before = time.monotonic()
            with pytest.raises(TransientError):
                asked.get("runs", "a" * 32)
            assert time.monotonic() - before < longest


def test_pages_and_stages_are_refused_as_mlflow_does(uri: str) -> None:
    store = RuntideRegistryStore(uri)
    for wrong in (0, -1, 1_001):
        with refused("INVALID_PARAMETER_VALUE", f"Invalid value {wrong}"):
            store.search_registered_models(max_results=wrong)
    for wrong in (0, 200_001):
        with refused("INVALID_PARAMETER_VALUE", f"Invalid value {wrong}"):
            store.search_model_versions(max_results=wrong)
    with refused("INVALID_PARAMETER_VALUE", "Invalid Model Version stage"):
        store.get_latest_versions("m", ["Foo"])
