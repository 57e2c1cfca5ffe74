"""MLflow's client through our store where a gateway keeps the artifacts: up, down, listed, announced; events over HTTP too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtide_schemas.events.runs import ArtifactLogged, ModelLogged, RunEnded, RunStarted
from tests.integration.http_log import HttpLog, running_http_log
from tests.integration.sdk_log import assert_complete, bodies, finished, read_log

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_TRACKING_URI": "runtide://"}
TOKEN = "may-do-everything"

TRAINING = """
import sys
from pathlib import Path
import mlflow

class Net(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return [text.upper() for text in model_input]

folder = Path(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_artifact(folder / "a 100%.txt", "deep")
    mlflow.log_artifacts(folder / "tree", "saved")
    mlflow.log_text("hello", "note.txt")
    if sys.argv[2] == "model":
        model = mlflow.pyfunc.log_model(name="net", python_model=Net(), pip_requirements=[])
        print(model.model_id)
print(run.info.run_id)
"""

READING = """
import sys
from pathlib import Path
import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

uri, store = sys.argv[1], mlflow.artifacts
repository = get_artifact_repository(uri)
print([one.path for one in repository.list_artifacts()])
print([(one.path, one.is_dir, one.file_size) for one in repository.list_artifacts("saved/inner")])
print(repository.list_artifacts("note.txt"), store.load_text(uri + "/note.txt"))
found = Path(store.download_artifacts(artifact_uri=uri))
print(sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()))
try:
    store.download_artifacts(artifact_uri=uri + "/missing")
except mlflow.MlflowException as error:
    print(error.error_code)
if len(sys.argv) > 2:
    from mlflow.models import Model
    print(Model.load(uri + "/models/" + sys.argv[2]).flavors.keys())
"""


def ran(code: str, environment: dict[str, str], spool: Path, *arguments: str) -> list[str]:
    """Run code with a clean environment and return the lines that it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RUNTIDE_", "MLFLOW_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=kept | QUIET | {"RUNTIDE_SPOOL": str(spool), "RUNTIDE_DATA": str(spool / "none")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code_of_exit, out, errors = finished(process)
    assert code_of_exit == 0, errors
    return out.splitlines()


def files(folder: Path) -> Path:
    """Write what is logged."""
    (folder / "tree" / "inner").mkdir(parents=True)
    (folder / "a 100%.txt").write_text("a")
    (folder / "tree" / "inner" / "b.bin").write_bytes(b"12345")
    return folder


def seen(http: HttpLog, run_id: str) -> dict[str, ArtifactLogged]:
    """Return the announced files of a run that is complete in the log."""
    events = read_log(http.broker.address, run_id)
    assert_complete(events)
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"]
    (started,) = bodies(events, RunStarted)
    assert started.artifact_uri == f"mlflow-artifacts:/{run_id}/artifacts"
    facts = bodies(events, ArtifactLogged)
    assert len({body.path for body in facts}) == len(facts), "the gateway does not state what the plugin states"
    return {body.path: body for body in facts}


@pytest.mark.gate
def test_everything_goes_over_http_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    opened = {"RUNTIDE_GATEWAY_TOKEN_FILE": str(tmp_path / "token")}
    root = tmp_path / "root"
    with running_http_log(tmp_path, RUNTIDE_GATEWAY_ARTIFACTS=str(root), **opened) as http:
        client = {"RUNTIDE_URI": http.gateway.url, **opened}
        model_id, run_id = ran(TRAINING, client, tmp_path / "spool", str(files(tmp_path / "files")), "model")
        facts = seen(http, run_id)
        uri = f"mlflow-artifacts:/{run_id}/artifacts"
        assert facts["deep/a 100%.txt"].uri == f"{uri}/deep/a%20100%25.txt"
        assert (facts["saved/inner/b.bin"].size, facts["note.txt"].size) == (5, 5)
        assert f"models/{model_id}/MLmodel" in facts
        stored = root / run_id / "artifacts"
        assert {str(path.relative_to(stored)) for path in stored.rglob("*") if path.is_file()} == set(facts)
        (logged,) = bodies(read_log(http.broker.address, run_id), ModelLogged)
        assert (logged.model_id, logged.uri) == (model_id, f"{uri}/models/{model_id}")
        listed, inner, note, everything, missing, flavors = ran(READING, client, tmp_path / "other", uri, model_id)
        assert listed == "['deep', 'models', 'note.txt', 'saved']"
        assert inner == "[('saved/inner/b.bin', False, 5)]"
        assert note == "[] hello"
        assert everything == str(sorted(facts))
        assert missing == "RESOURCE_DOES_NOT_EXIST"
        assert "python_function" in flavors
        wrong = client | {"RUNTIDE_GATEWAY_TOKEN": "wrong"}
        with pytest.raises(AssertionError, match="RUNTIDE_GATEWAY_TOKEN"):
            ran(READING, wrong, tmp_path / "other", uri)


@pytest.mark.slow
def test_events_to_a_broker_and_artifacts_to_the_gateway(tmp_path: Path) -> None:
    with running_http_log(tmp_path, RUNTIDE_GATEWAY_ARTIFACTS=str(tmp_path / "root")) as http:
        client = {"RUNTIDE_BROKER": http.broker.address, "RUNTIDE_GATEWAY": http.gateway.url}
        client["RUNTIDE_ARTIFACTS"] = "mlflow-artifacts:"
        (run_id,) = ran(TRAINING, client, tmp_path / "spool", str(files(tmp_path / "files")), "")
        assert set(seen(http, run_id)) == {"deep/a 100%.txt", "saved/inner/b.bin", "note.txt"}
