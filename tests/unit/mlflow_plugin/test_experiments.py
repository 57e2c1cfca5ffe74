"""Experiments with nobody to ask for their numbers."""

from pathlib import Path

import mlflow
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from runtide.mlflow_plugin.experiments import name_in, provisional_id
from runtide.spool.export import exported
from runtide.sync import find_spools
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import (
    RunStarted,
)
from tests.unit.mlflow_plugin.gateway_double import GatewayDouble
from tests.unit.mlflow_plugin.spooled import events, refused

# Made of what can be printed, and not picked from all texts: Hypothesis gives up when it has to throw most of them away.
PRINTABLE = st.characters(exclude_categories=["C", "Z"])


@given(st.builds(lambda first, rest: first + rest, PRINTABLE, st.text(PRINTABLE | st.just(" "), max_size=199)))
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


def test_runs_go_where_the_gateway_says_that_their_experiment_keeps_its_files(double: GatewayDouble, uri: str) -> None:
    row = {
        "experiment_id": "7", "name": "placed", "artifact_location": "s3://bucket/place/", "lifecycle_stage": "active",
        "created_at": 1, "updated_at": 1,
    }  # fmt: skip
    double.answers["experiments/7"] = {"experiment": row, "tags": {}}
    client = MlflowClient(tracking_uri=f"{uri}&gateway={double.url}")
    for _ in range(2):
        run = client.create_run("7").info
        assert run.artifact_uri == f"s3://bucket/place/{run.run_id}/artifacts"
    assert double.asked["experiments/7"] == 1, "once"
    elsewhere = client.create_run("8").info
    assert elsewhere.artifact_uri is not None and elsewhere.artifact_uri.startswith("file:"), "nobody knows it"
    double.answers["experiments/9"] = {"experiment": {**row, "lifecycle_stage": "deleted"}, "tags": {}}
    with refused("INVALID_STATE", "must be in the 'active' state"):
        client.create_run("9")
