"""MLflow 3's logged models through the real client and the gateway: made in runs and outside, finalised, described, deleted."""

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.stack import RunningStack, eventually

mlflow = pytest.importorskip("mlflow")
from mlflow.entities import (  # noqa: E402 - only where there is MLflow
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
)
from mlflow.exceptions import MlflowException  # noqa: E402

API = "/api/2.0/mlflow"
UNKNOWN = "m-" + "0" * 32


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> Iterator[Any]:
    """MLflow's own client of the stack's gateway."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    yield mlflow.MlflowClient(tracking_uri=stack.file.gateway, registry_uri=stack.file.gateway)
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def experiment(client: Any) -> str:
    """An experiment of these tests."""
    made: str = client.create_experiment(f"logged-models-{time.time_ns()}")
    return made


def test_a_model_of_a_run_is_announced_described_and_finalised(client: Any, experiment: str) -> None:
    run = client.create_run(experiment)
    params = {f"p{number}": str(number) for number in range(130)}  # the client sends those over 100 apart
    made = client.create_logged_model(
        experiment, "forest", run.info.run_id, tags={"a": "1", "b": "2"}, params=params, model_type="trees"
    )
    assert made.status == LoggedModelStatus.PENDING
    assert made.artifact_location == f"mlflow-artifacts:/{experiment}/models/{made.model_id}/artifacts"
    client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, step=3)])
    client.set_logged_model_tags(made.model_id, {"a": "3", "c": "4"})
    client.delete_logged_model_tag(made.model_id, "b")
    done = client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    found = client.get_logged_model(made.model_id)
    assert (found.status, found.tags, found.params) == (LoggedModelStatus.READY, {"a": "3", "c": "4"}, params)
    assert (found.name, found.model_type, found.source_run_id) == ("forest", "trees", run.info.run_id)
    assert (found.experiment_id, found.artifact_location) == (experiment, made.artifact_location)
    assert found.creation_timestamp == made.creation_timestamp
    assert found.last_updated_timestamp == done.last_updated_timestamp >= made.last_updated_timestamp
    [output] = client.get_run(run.info.run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (made.model_id, 3)


def test_metrics_of_a_model_come_with_their_dataset_and_stand_in_the_run_too(client: Any, experiment: str) -> None:
    run, other = client.create_run(experiment).info.run_id, client.create_run(experiment).info.run_id
    made = client.create_logged_model(experiment, source_run_id=run)
    assert made.name
    client.log_metric(run, "loss", 0.5, step=1, timestamp=7, model_id=made.model_id)
    client.log_metric(run, "loss", 0.5, step=1, timestamp=7, model_id=made.model_id)
    client.log_metric(run, "alone", 1.0)
    about = {"model_id": made.model_id, "dataset_name": "digits", "dataset_digest": "d1"}
    client.log_batch(other, [Metric("acc", 0.9, 8, 2, **about), Metric("acc", float("nan"), 9, 3, **about)])
    metrics = client.get_logged_model(made.model_id).metrics
    told = [(one.key, str(one.value), one.timestamp, one.step, one.run_id, one.dataset_name) for one in metrics]
    assert told == [
        ("acc", "0.9", 8, 2, other, "digits"),
        ("acc", "nan", 9, 3, other, "digits"),
        ("loss", "0.5", 7, 1, run, None),
    ]
    assert client.get_run(run).data.metrics == {"loss": 0.5, "alone": 1.0}


def test_sql_knows_models_of_mlflows_clients_with_params_tags_and_metrics(
    client: Any, experiment: str, stack: RunningStack
) -> None:
    run = client.create_run(experiment).info.run_id
    made = client.create_logged_model(experiment, "asked", run, {"t": "1"}, {"depth": "3"}, "trees")
    client.log_outputs(run, [LoggedModelOutput(made.model_id, step=3)])
    about = {"model_id": made.model_id, "dataset_name": "digits", "dataset_digest": "d1"}
    client.log_batch(run, [Metric("acc", 0.9, 8, 2, **about)])
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    statement = (
        "SELECT l.name, l.model_type, l.status, l.run_id, l.experiment_id, l.uri, l.created_at, p.value AS depth, t.value AS t, "
        "m.value AS acc, m.step, m.dataset_name, m.dataset_digest, o.step AS output_step "
        "FROM logged_models l JOIN logged_model_params p USING (model_id) JOIN logged_model_tags t USING (model_id) "
        "JOIN logged_model_metrics m USING (model_id) JOIN run_models o USING (model_id) "
        f"WHERE model_id = '{made.model_id}' AND status = 'READY'"
    )
    [row] = eventually(lambda: stack.sql(statement), "the model in DuckDB")
    assert row == {
        "name": "asked", "model_type": "trees", "status": "READY", "run_id": run, "experiment_id": experiment,
        "uri": made.artifact_location, "created_at": made.creation_timestamp, "depth": "3", "t": "1",
        "acc": 0.9, "step": 2, "dataset_name": "digits", "dataset_digest": "d1", "output_step": 3,
    }  # fmt: skip


def test_a_model_outside_of_any_run_makes_no_run(client: Any, experiment: str, stack: RunningStack) -> None:
    made = client.create_logged_model(experiment, "outside", params={"depth": "3"})
    client.set_logged_model_tags(made.model_id, {"a": "1"})
    client.finalize_logged_model(made.model_id, LoggedModelStatus.FAILED)
    found = client.get_logged_model(made.model_id)
    assert (found.status, found.source_run_id or "", found.tags) == (LoggedModelStatus.FAILED, "", {"a": "1"})
    run_id = made.model_id.removeprefix("m-")
    assert not stack.postgres("select 1 from runtide.runs where run_id = $1", run_id)
    assert not stack.postgres("select 1 from runtide.writers where run_id = $1", run_id)
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(run_id)


def test_a_source_run_that_is_in_no_log_of_ours_is_kept_and_makes_no_run(
    client: Any, experiment: str, stack: RunningStack
) -> None:
    made = client.create_logged_model(experiment, "elsewhere", source_run_id="f" * 32)
    assert client.get_logged_model(made.model_id).source_run_id == "f" * 32
    assert not stack.postgres("select 1 from runtide.runs where run_id = $1", "f" * 32)


def test_a_run_names_the_models_that_it_used(client: Any, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    made = client.create_logged_model(experiment, "used")
    client.log_inputs(run_id, models=[LoggedModelInput(made.model_id)])
    client.log_inputs(run_id, datasets=[], models=[LoggedModelInput(made.model_id)])
    inputs = client.get_run(run_id).inputs
    assert [one.model_id for one in inputs.model_inputs] == [made.model_id]
    assert inputs.dataset_inputs == []


def test_a_deleted_model_is_gone_and_can_still_be_asked_for(client: Any, experiment: str) -> None:
    made = client.create_logged_model(experiment, "gone")
    client.delete_logged_model(made.model_id)
    client.delete_logged_model(made.model_id)
    with pytest.raises(MlflowException, match=f"Logged model with ID '{made.model_id}' not found") as refused:
        client.get_logged_model(made.model_id)
    assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    store = client._tracking_client.store
    assert store.get_logged_model(made.model_id, allow_deleted=True).name == "gone"


def test_models_are_found_by_the_run_that_made_them(client: Any, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    made = [client.create_logged_model(experiment, name, run_id, tags={"n": name}) for name in ("found", "gone")]
    client.create_logged_model(experiment, "found")
    client.delete_logged_model(made[1].model_id)
    [found] = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    assert (found.model_id, found.name, found.tags) == (made[0].model_id, "found", {"n": "found"})
    both = f"source_run_id = '{run_id}' AND name = 'found'"
    assert [one.model_id for one in client.search_logged_models([experiment], both)] == [made[0].model_id]
    client.log_outputs(run_id, [LoggedModelOutput(made[0].model_id, step=0)])
    [run] = client.search_runs([experiment], f"attributes.run_id = '{run_id}'")
    assert [one.model_id for one in run.outputs.model_outputs] == [made[0].model_id]


def test_what_cannot_be_is_refused_with_mlflows_words(client: Any, experiment: str, stack: RunningStack) -> None:
    made = client.create_logged_model(experiment, "strict", params={"p": "1"})
    for name in ("a/b", "a:b", "a.b", "a%b", 'a"b', "a'b"):
        with pytest.raises(MlflowException, match=r"Invalid model name .* cannot contain the following characters"):
            client.create_logged_model(experiment, name)
    with pytest.raises(MlflowException, match=r"Changing param values is not allowed. Param with key='p'"):
        client.log_model_params(made.model_id, {"p": "2"})
    client.log_model_params(made.model_id, {"p": "1", "q": "2"})
    assert client.get_logged_model(made.model_id).params == {"p": "1", "q": "2"}
    with pytest.raises(MlflowException, match=f"No tag with key 'x' found for model with ID '{made.model_id}'"):
        client.delete_logged_model_tag(made.model_id, "x")
    with httpx.Client(base_url=f"{stack.file.gateway}{API}/", timeout=60) as http:
        for method, path, body, status, code in (
            ("POST", "logged-models", {"name": "x"}, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", "logged-models", {"experiment_id": "987654321"}, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("POST", "logged-models", {"experiment_id": experiment, "name": 3}, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", "logged-models", {"experiment_id": experiment, "tags": [{"key": "\0"}]}, 400, None),
            ("PATCH", f"logged-models/{made.model_id}", {}, 400, "INVALID_PARAMETER_VALUE"),
            ("PATCH", f"logged-models/{made.model_id}", {"status": "GOOD"}, 400, "INVALID_PARAMETER_VALUE"),
            ("PATCH", f"logged-models/{UNKNOWN}", {"status": "LOGGED_MODEL_READY"}, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("PATCH", f"logged-models/{UNKNOWN}/tags", {"tags": []}, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("POST", f"logged-models/{UNKNOWN}/params", {"params": []}, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("DELETE", f"logged-models/{UNKNOWN}", {}, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("DELETE", f"logged-models/{UNKNOWN}/tags/a", None, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("GET", f"logged-models/{UNKNOWN}", None, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("GET", f"logged-models/a%00b{UNKNOWN}", None, 400, None),
            ("GET", f"logged-models/{made.model_id}?allow_deleted=x", None, 400, "INVALID_PARAMETER_VALUE"),
            (
                "GET",
                f"logged-models/{made.model_id}/artifacts/directories?artifact_directory_path=../..",
                None,
                400,
                None,
            ),
            ("POST", "runs/outputs", {"run_id": "0" * 32, "models": [{"model_id": UNKNOWN}]}, 404, None),
            ("POST", "runs/outputs", {"run_id": "0" * 32}, 400, "INVALID_PARAMETER_VALUE"),
        ):
            answer = http.request(method, path, json=body) if body is not None else http.request(method, path)
            assert answer.status_code == status, f"{method} {path} {body}: {answer.status_code} {answer.text}"
            assert code is None or answer.json()["error_code"] == code, answer.text


def test_files_of_a_model_are_listed_by_folder(client: Any, experiment: str, stack: RunningStack) -> None:
    made = client.create_logged_model(experiment, "files")
    path = f"{experiment}/models/{made.model_id}/artifacts"
    with httpx.Client(base_url=stack.file.gateway, timeout=60) as http:
        for name in ("MLmodel", "data/model.bin"):
            assert http.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}/{name}", content=b"abc").status_code == 200
        listed = f"{API}/logged-models/{made.model_id}/artifacts/directories"
        top = http.get(listed).json()
        inner = http.get(listed, params={"artifact_directory_path": "data"}).json()
    assert top["root_uri"] == made.artifact_location
    assert top["files"] == [{"path": "MLmodel", "is_dir": False, "file_size": 3}, {"path": "data", "is_dir": True}]
    assert inner["files"] == [{"path": "data/model.bin", "is_dir": False, "file_size": 3}]


@pytest.mark.slow  # a process that imports scikit-learn
def test_what_the_sdk_logs_is_a_model_that_is_ready(client: Any, stack: RunningStack) -> None:
    told = stack.python(
        "import runtide, sys\n"
        "from sklearn.linear_model import LinearRegression\n"
        "runtide.init(experiment='logged-models-sdk')\n"
        "with runtide.start_run() as run:\n"
        "    logged = run.log_model(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), 'line')\n"
        "print(run.run_id, logged.model_id, logged.uri)\n"
    )
    out, errors = told.communicate(timeout=120)
    assert told.returncode == 0, errors
    run_id, model_id, uri = out.split()[-3:]
    found = client.get_logged_model(model_id)
    assert (found.status, found.name, found.source_run_id) == (LoggedModelStatus.READY, "line", run_id)
    assert found.artifact_location == uri
    assert found.experiment_id == client.get_experiment_by_name("logged-models-sdk").experiment_id
    assert found.creation_timestamp == found.last_updated_timestamp > 0
    client.set_logged_model_tags(model_id, {"seen": "yes"})
    assert client.get_logged_model(model_id).tags == {"seen": "yes"}
