"""MLflow's client and a running stack: autologging without a server in the path, and what the gateway then answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import RunningStack, eventually

pytestmark = pytest.mark.gate

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_TRACKING_URI": "runtide://"}

AUTOLOG = """
import json, sys
import mlflow
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

mlflow.set_experiment(sys.argv[1])
mlflow.autolog(log_input_examples=False)
from sklearn.metrics import accuracy_score
X, y = load_digits(return_X_y=True)
model = LogisticRegression(max_iter=30).fit(X[:600], y[:600])
held = X[600:800]
accuracy = accuracy_score(y[600:800], model.predict(held))
run = mlflow.last_active_run()
(output,) = run.outputs.model_outputs
loaded = mlflow.sklearn.load_model(f"models:/{output.model_id}")
assert (loaded.predict(X[:50]) == model.predict(X[:50])).all()
print("TOLD" + json.dumps({
    "run_id": run.info.run_id, "experiment_id": run.info.experiment_id, "model_id": output.model_id,
    "accuracy": accuracy, "params": run.data.params, "metrics": run.data.metrics,
}))
"""

READ = """
import json, sys
import mlflow
run_id, experiment_id, model_id = sys.argv[1:4]
client = mlflow.MlflowClient()
run = client.get_run(run_id)
found = mlflow.search_runs([experiment_id], "params.max_iter = '30' and metrics.training_score > 0.5", output_format="list")
models = client.search_logged_models([experiment_id], "name = 'model'")
model = client.get_logged_model(model_id)
print("TOLD" + json.dumps({
    "found": [one.info.run_id for one in found],
    "run": run.to_dictionary(),
    "history": [point.value for point in client.get_metric_history(run_id, "training_score")],
    "model": model.name, "status": str(model.status), "params": len(model.params), "metrics": len(model.metrics),
    "models": [one.model_id for one in models],
    "experiment": client.get_experiment(experiment_id).name,
    "experiments": [one.name for one in client.search_experiments(filter_string="name LIKE 'mlflow-auto%'")],
    "artifacts": sorted(one.path for one in client.list_artifacts(run_id)),
    "predicts": type(mlflow.sklearn.load_model(f"models:/{model_id}")).__name__,
}))
"""

REGISTER = """
import json, sys
import mlflow
model_id, name = sys.argv[1:3]
client = mlflow.MlflowClient()
first = mlflow.register_model(f"models:/{model_id}", name, tags={"k": "v"})
second = mlflow.register_model(f"models:/{model_id}", name)
client.set_registered_model_alias(name, "champion", second.version)
client.transition_model_version_stage(name, first.version, "Archived")
client.update_model_version(name, first.version, "the first")
client.set_model_version_tag(name, second.version, "checked", "yes")
latest = {version.current_stage: version.version for version in client.get_latest_versions(name)}
by_alias = client.get_model_version_by_alias(name, "champion")
one = client.get_model_version(name, first.version)
told = {
    "versions": [first.version, second.version], "latest": latest, "champion": by_alias.version,
    "checked": by_alias.tags, "description": one.description, "run_id": one.run_id, "source": one.source,
    "loaded": type(mlflow.sklearn.load_model(f"models:/{name}@champion")).__name__,
    "found": [version.version for version in client.search_model_versions(f"name = '{name}'")],
    "models": [model.name for model in client.search_registered_models(f"name = '{name}'")],
}
try:
    client.create_registered_model(name)
except mlflow.MlflowException as error:
    told["again"] = error.error_code
try:
    client.get_model_version_by_alias(name, "nobody")
except mlflow.MlflowException as error:
    told["missing"] = error.error_code
client.delete_registered_model_alias(name, "champion")
client.delete_model_version(name, first.version)
told["left"] = [version.version for version in client.search_model_versions(f"name = '{name}'")]
print("TOLD" + json.dumps(told))
"""


def told(stack: RunningStack, code: str, *arguments: str, uri: str = "runtide://") -> Any:
    process = stack.python(code, *arguments, variables=QUIET | {"MLFLOW_TRACKING_URI": uri})
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    return json.loads(out.partition("TOLD")[2])


@pytest.fixture(scope="module")
def trained(stack: RunningStack) -> Any:
    answer = told(stack, AUTOLOG, "mlflow-autolog")
    eventually(lambda: stack.get(f"/runs/{answer['run_id']}/completeness")["state"] == "complete", "the run is here")
    return answer


def test_autologging_publishes_the_run(stack: RunningStack, trained: Any) -> None:
    found = stack.get(f"/runs/{trained['run_id']}")
    run = found["run"]
    assert (run["info"]["status"], run["info"]["experiment_name"]) == ("FINISHED", "mlflow-autolog")
    assert run["params"] == trained["params"]
    assert {key: metric["last_value"] for key, metric in run["metrics"].items()} == trained["metrics"]
    assert trained["metrics"]["accuracy_score_held"] == pytest.approx(trained["accuracy"])
    assert run["tags"]["estimator_name"] == "LogisticRegression"
    assert {given["tags"]["mlflow.data.context"] for given in found["inputs"]} >= {"train"}
    (model,) = found["logged_models"]
    assert (model["model_id"], model["name"]) == (trained["model_id"], "model")
    assert "sklearn" in model["flavors"]
    paths = {artifact["path"] for artifact in found["artifacts"]}
    assert {f"models/{trained['model_id']}/MLmodel", "estimator.html"} <= paths


@pytest.mark.parametrize("server", [False, True], ids=["by the plugin", "as a client of the gateway"])
def test_another_process_reads_it_through_the_gateway(stack: RunningStack, trained: Any, server: bool) -> None:
    asked = (trained["run_id"], trained["experiment_id"], trained["model_id"])
    answer = told(stack, READ, *asked, uri=stack.file.gateway if server else "runtide://")
    assert answer["found"] == [trained["run_id"]]
    assert answer["run"]["data"]["params"] == trained["params"]
    assert answer["run"]["data"]["metrics"] == trained["metrics"]
    assert answer["run"]["outputs"]["model_outputs"] == [{"model_id": trained["model_id"], "step": 0}]
    assert answer["history"] == [trained["metrics"]["training_score"]]
    assert (answer["model"], answer["status"]) == ("model", "READY")
    assert answer["params"] > 5
    assert answer["metrics"] > 3
    assert answer["models"] == [trained["model_id"]]
    assert answer["experiment"] == "mlflow-autolog"
    assert answer["experiments"] == ["mlflow-autolog"]
    assert "estimator.html" in answer["artifacts"]
    assert answer["predicts"] == "LogisticRegression"


@pytest.mark.slow
def test_the_registry_is_the_registrars(stack: RunningStack, trained: Any) -> None:
    answer = told(stack, REGISTER, trained["model_id"], "mlflow-digits")
    assert answer["versions"] == ["1", "2"]
    assert answer["latest"] == {"None": "2", "Archived": "1"}
    assert (answer["champion"], answer["checked"], answer["description"]) == ("2", {"checked": "yes"}, "the first")
    assert answer["run_id"] == trained["run_id"]
    assert answer["source"].endswith(f"/models/{trained['model_id']}")
    assert answer["loaded"] == "LogisticRegression"
    assert sorted(answer["found"]) == ["1", "2"]
    assert answer["models"] == ["mlflow-digits"]
    assert (answer["again"], answer["missing"]) == ("RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE")
    assert answer["left"] == ["2"]
    (version,) = stack.get("/models/mlflow-digits")["versions"]
    assert len(version["digest"]) == 64
    assert "sklearn" in version["flavors"]


OFFLINE = """
import mlflow
mlflow.set_experiment("mlflow-offline")
with mlflow.start_run(run_name="offline") as run:
    mlflow.log_params({"a": 1})
    for step in range(300):
        mlflow.log_metric("loss", step * 0.25, step=step)
print(run.info.run_id)
"""


@pytest.mark.slow
def test_an_offline_run_is_shipped_by_sync(stack: RunningStack, tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
    environment = {**clean, **QUIET, "RUNTIDE_DATA": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    run_id = done.stdout.strip()
    assert "runtide sync" in done.stderr
    stack.runtide("sync", str(tmp_path / "spool"))
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", "complete after sync")
    run = eventually(
        lambda: (found := stack.get(f"/runs/{run_id}")["run"])["info"]["experiment_id"] and found, "resolved"
    )
    assert (run["info"]["experiment_name"], run["info"]["name"]) == ("mlflow-offline", "offline")
    assert run["info"]["experiment_id"].isdecimal()
    assert run["metrics"]["loss"]["point_count"] == 300
