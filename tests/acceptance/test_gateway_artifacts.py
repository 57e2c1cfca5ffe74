"""A job that shares no folder with the stack: its files go through the gateway, and what it registers is served all the same."""

import httpx

from tests.acceptance.stack import RunningStack, eventually

JOB = """
import runtide
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

x, y = load_digits(return_X_y=True)
runtide.init(experiment="through-the-gateway")
with runtide.start_run() as run:
    logged = run.log_model(LogisticRegression(max_iter=50).fit(x, y), "classifier")
    run.log_table({"a": [1]}, "table.json")
    run.log_table({"a": [2]}, "table.json")
version = runtide.register_model("gateway-digits", logged)
again = runtide.register_model("gateway-digits", logged.uri)
assert again.source == version.source
runtide.deploy("gateway-endpoint", "gateway-digits", follow="latest")
print(run.run_id, logged.uri)
"""


def test_a_model_that_the_gateway_keeps_is_deployed(stack: RunningStack) -> None:
    job = stack.python(JOB, variables={"RUNTIDE_ARTIFACTS": "mlflow-artifacts:"})
    said, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    run_id, uri = said.split()
    assert uri == f"mlflow-artifacts:/{run_id}/artifacts/models/classifier"
    assert (stack.data / "artifacts" / run_id / "artifacts" / "models" / "classifier" / "MLmodel").is_file()

    def url() -> str:
        every = [one for one in stack.get("/endpoints")["endpoints"] if one["endpoint"] == "gateway-endpoint"]
        attempts = [deployment for endpoint in every for deployment in endpoint["deployments"]]
        assert not [one["reason"] for one in attempts if one["state"] == "failed"], attempts
        return next((str(one["url"]) for one in attempts if one["state"] == "serving"), "")

    address = eventually(url, "the endpoint is served")
    answer = httpx.post(f"{address}/invocations", json={"inputs": [[0.0] * 64]}, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1
    kept = stack.get(f"/runs/{run_id}")
    assert "table.json" in str(kept)
