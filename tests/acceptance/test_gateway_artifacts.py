"""A job that shares no folder with the stack: its files go through the gateway, and what it registers is served all the same."""

from pathlib import Path

import httpx
import pytest

from tests.acceptance.stack import RunningStack, eventually

JOB = """
import sys
import runtide
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

x, y = load_digits(return_X_y=True)
runtide.init(experiment="through-the-gateway")
with runtide.start_run() as run:
    logged = run.log_model(LogisticRegression(max_iter=50).fit(x, y), "classifier")
    run.log_table({"a": [1]}, "table.json")
    run.log_table({"a": [2]}, "table.json")
version = runtide.register_model(f"digits-{sys.argv[1]}", logged)
again = runtide.register_model(f"digits-{sys.argv[1]}", logged.uri)
assert again.source == version.source
runtide.deploy(f"gateway-{sys.argv[1]}", f"digits-{sys.argv[1]}", follow="latest")
print(run.run_id, logged.uri)
"""


@pytest.mark.parametrize("way", [pytest.param("kafka", marks=pytest.mark.gate), "http"])
def test_a_model_that_the_gateway_keeps_is_deployed(stack: RunningStack, tmp_path: Path, way: str) -> None:
    """Over HTTP nothing but the gateway's address is known: events, requests, their answers and files go through it."""
    by_kafka = {"RUNTIDE_ARTIFACTS": "mlflow-artifacts:"}
    by_http = {"RUNTIDE_URI": stack.file.gateway, "RUNTIDE_DATA": str(tmp_path)}
    job = stack.python(JOB, way, variables=by_kafka if way == "kafka" else by_http)
    said, errors = job.communicate(timeout=170)
    assert job.returncode == 0, errors
    run_id, uri = said.split()
    assert uri == f"mlflow-artifacts:/{run_id}/artifacts/models/classifier"
    assert (stack.data / "artifacts" / run_id / "artifacts" / "models" / "classifier" / "MLmodel").is_file()

    def url() -> str:
        every = [one for one in stack.get("/endpoints")["endpoints"] if one["endpoint"] == f"gateway-{way}"]
        attempts = [deployment for endpoint in every for deployment in endpoint["deployments"]]
        assert not [one["reason"] for one in attempts if one["state"] == "failed"], attempts
        return next((str(one["url"]) for one in attempts if one["state"] == "serving"), "")

    address = eventually(url, "the endpoint is served")
    answer = httpx.post(f"{address}/invocations", json={"inputs": [[0.0] * 64]}, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", "what the run says is folded")
    kept = stack.get(f"/runs/{run_id}")
    assert "table.json" in str(kept)
    assert "gateway" not in {one["client"] for one in kept["writers"]}, "what the SDK states is not stated twice"
    [model] = kept["logged_models"]
    _assert_mlflow_finds(stack, model["model_id"], f"digits-{way}", uri)


def _assert_mlflow_finds(stack: RunningStack, model_id: str, registered: str, uri: str) -> None:
    """By the ways of MLflow's API, the files of the SDK's model and of the version made from it are there."""
    with httpx.Client(base_url=stack.file.gateway, timeout=60, trust_env=False) as client:
        place = f"2.0/mlflow/logged-models/{model_id}/artifacts"
        listed = client.get(f"/api/{place}/directories").json()
        assert listed["root_uri"] == uri
        assert "MLmodel" in {one["path"] for one in listed["files"]}
        about = client.get(f"/ajax-api/{place}/files", params={"artifact_file_path": "MLmodel"})
        version = {"name": registered, "version": "1", "path": "MLmodel"}
        assert "flavors" in about.text
        assert client.get("/model-versions/get-artifact", params=version).text == about.text
