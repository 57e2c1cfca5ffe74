"""Datasets, logged models and files: what is announced of them."""

from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
)

from runtide_schemas.events.logged_models import (
    OF_A_MODEL,
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelLink,
    ModelMetricsLogged,
    ModelPoint,
    RunModelsLinked,
)
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ModelLogged,
    RunEnded,
    RunStarted,
)
from tests.unit.mlflow_plugin.spooled import a_model_directory, events, points, refused


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
    links = [link for body in events(tmp_path, RunModelsLinked) for link in body.links]
    assert links == [
        ModelLink(model_id="m-1", role="input"),
        ModelLink(model_id="m-2", role="output", step=3),
    ]
    with refused("INVALID_PARAMETER_VALUE", "exceeds the maximum length of 500"):
        client.log_inputs(run_id, datasets=[DatasetInput(Dataset("x" * 501, "d", "local", "{}"))])


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
    read = client.get_logged_model(model.model_id)
    assert (read.status, read.tags, len(read.params)) == (LoggedModelStatus.READY, {"c": "d"}, 61)
    assert [(found.key, found.value, found.step) for found in read.metrics or ()] == [("acc", 0.5, 4)]
    client.delete_logged_model(model.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        client.get_logged_model(model.model_id)


def test_what_is_logged_of_a_model_is_stated_as_the_gateway_states_it(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    model = client.create_logged_model(
        "0", name="net", source_run_id=run_id, params={"p": "1"}, tags={"a": "b"}, model_type="agent"
    )
    client.log_batch(
        run_id,
        metrics=[
            Metric("acc", 0.5, 9, 4, model_id=model.model_id, dataset_name="digits", dataset_digest="d1"),
            Metric("loss", 1.0, 9, 4),
        ],
    )
    client.set_logged_model_tags(model.model_id, {"c": "d"})
    client.delete_logged_model_tag(model.model_id, "a")
    client.log_model_params(model.model_id, {"p": "1", "late": "2"})
    with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed"):
        client.log_model_params(model.model_id, {"p": "2"})
    client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    client.delete_logged_model(model.model_id)
    about = {"run_id": run_id, "model_id": model.model_id}
    stated = [body for kind in OF_A_MODEL for body in events(tmp_path, kind)]
    assert [replace(body, at=0) for body in stated] == [
        LoggedModelCreated(
            **about,
            name="net",
            source_run_id=run_id,
            experiment_id="0",
            model_type="agent",
            artifact_uri=model.artifact_location,
            params={"p": "1"},
            tags={"a": "b"},
            at=0,
        ),
        LoggedModelFinalized(**about, status="FAILED", at=0),
        LoggedModelTagsSet(**about, tags={"c": "d"}, at=0),
        LoggedModelTagsDeleted(**about, keys=("a",), at=0),
        LoggedModelParamsLogged(**about, params={"late": "2"}, at=0),
        LoggedModelDeleted(**about, at=0),
    ]
    point = ModelPoint(
        model_id=model.model_id,
        key="acc",
        step=4,
        timestamp=9,
        value=0.5,
        dataset_name="digits",
        dataset_digest="d1",
    )
    assert events(tmp_path, ModelMetricsLogged) == [ModelMetricsLogged(run_id=run_id, model_points=(point,))]
    assert points(tmp_path, "acc") == [(4, 9, 0.5)]


def test_a_models_tags_and_params_have_limits(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    model = client.create_logged_model("0", name="net", source_run_id=run_id)
    with refused("INVALID_PARAMETER_VALUE", "the limit is 65535"):
        client.set_logged_model_tags(model.model_id, {"a": "x" * 65_536})
    with refused("INVALID_PARAMETER_VALUE", "NUL"):
        client.create_logged_model("0", name="net", source_run_id=run_id, params={"a": "\0"})
    with refused("INVALID_PARAMETER_VALUE", "NUL"):
        client.create_logged_model("0", name="n\0t", source_run_id=run_id)
    with refused("INVALID_PARAMETER_VALUE", "NUL"):
        client.log_model_params(model.model_id, {"a": "\0"})
    with refused("INVALID_PARAMETER_VALUE", "NUL"):
        client.log_outputs(run_id, [LoggedModelOutput("m-\0", step=0)])
    assert client.get_logged_model(model.model_id).params == {}
    assert events(tmp_path, LoggedModelTagsSet) == events(tmp_path, RunModelsLinked) == []
    assert len(events(tmp_path, LoggedModelCreated)) == 1


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
