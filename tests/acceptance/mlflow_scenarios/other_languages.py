"""MLflow's REST API in the shapes that its R and Java clients send: old fields, integers as text, version 2.0 only."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tests.acceptance.mlflow_scenarios.expectations import server, unique

R = {"User-Agent": "mlflow-r-client/2.22.0", "Content-Type": "application/json; charset=utf-8"}
JAVA = {"User-Agent": "mlflow-java-client/2.22.0", "Content-Type": "application/json"}


def _ask(method: str, path: str, fields: dict[str, Any], headers: dict[str, str], code: int = 200) -> Any:
    url = f"{server()}/api/2.0/mlflow/{path}"
    body = None
    if method == "GET":
        url += "?" + urllib.parse.urlencode(fields, doseq=True)
    else:
        body = json.dumps(fields).encode()
    request = urllib.request.Request(url, body, {"Accept": "*/*", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, told = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, told = error.code, error.read()
    assert status == code, (status, told)
    return json.loads(told or b"{}")


def a_session_of_the_r_client() -> None:
    name = unique("from R")
    missing = _ask("GET", "experiments/get-by-name", {"experiment_name": name}, R, 404)
    assert missing["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    number = _ask("POST", "experiments/create", {"name": name, "artifact_location": None}, R)["experiment_id"]
    assert isinstance(number, str)
    started = {"experiment_id": number, "user_id": "ada", "start_time": 1_700_000_000_000}
    tags = [{"key": "mlflow.source.type", "value": "LOCAL"}, {"key": "mlflow.user", "value": "ada"}]
    run = _ask("POST", "runs/create", {**started, "tags": tags}, R)["run"]
    run_id = run["info"]["run_id"]
    assert (run["info"]["run_uuid"], run["info"]["start_time"]) == (run_id, 1_700_000_000_000)
    both = {"run_uuid": run_id, "run_id": run_id}
    _ask("POST", "runs/log-parameter", {**both, "key": "alpha", "value": "0.5"}, R)
    for step in range(3):
        point = {"key": "loss", "value": 1 / (step + 1), "timestamp": 1_700_000_000_000 + step, "step": step}
        _ask("POST", "runs/log-metric", {**both, **point}, R)
    _ask("POST", "runs/log-metric", {**both, "key": "nan", "value": "NaN", "timestamp": 1, "step": 0}, R)
    _ask("POST", "runs/set-tag", {**both, "key": "k", "value": "v"}, R)
    metrics = [{"key": "b", "value": 1, "timestamp": 5, "step": 1}]
    _ask("POST", "runs/log-batch", {"run_id": run_id, "metrics": metrics, "params": [], "tags": []}, R)
    updated = _ask("POST", "runs/update", {**both, "status": "FINISHED", "end_time": 1_700_000_009_000}, R)
    assert (updated["run_info"]["status"], updated["run_info"]["end_time"]) == ("FINISHED", 1_700_000_009_000)
    found = _ask("GET", "runs/get", both, R)["run"]
    assert {one["key"]: one["value"] for one in found["data"]["params"]} == {"alpha": "0.5"}
    assert {one["key"]: one["value"] for one in found["data"]["metrics"]} == {"loss": 1 / 3, "nan": "NaN", "b": 1}
    history = _ask("GET", "metrics/get-history", {"run_uuid": run_id, "run_id": run_id, "metric_key": "loss"}, R)
    assert [one["step"] for one in history["metrics"]] == [0, 1, 2]
    searched = _ask("POST", "runs/search", {"experiment_ids": [number], "run_view_type": "ACTIVE_ONLY"}, R)
    assert [one["info"]["run_id"] for one in searched["runs"]] == [run_id]
    assert _ask("GET", "artifacts/list", both, R)["root_uri"] == found["info"]["artifact_uri"]
    _ask("POST", "runs/delete", {"run_id": run_id}, R)
    _ask("POST", "runs/restore", {"run_id": run_id}, R)
    _ask("POST", "experiments/delete", {"experiment_id": number}, R)
    _ask("POST", "experiments/restore", {"experiment_id": number}, R)


def the_r_client_sends_numbers_as_text() -> None:
    """All that R's client sends is text, as R writes it: 100000 is ``1e+05``. What is empty it leaves out."""
    name = unique("R in text")
    number = _ask("POST", "experiments/create", {"name": name, "tags": [{"key": "a", "value": "1"}]}, R)[
        "experiment_id"
    ]
    asked = {"view_type": "ACTIVE_ONLY", "max_results": "1000", "filter": f"name = '{name}'"}
    (found,) = _ask("POST", "experiments/search", asked, R)["experiments"]
    assert (found["experiment_id"], found["tags"]) == (number, [{"key": "a", "value": "1"}])
    started = {"experiment_id": number, "user_id": "unknown", "start_time": "1.7e+12"}
    run = _ask("POST", "runs/create", started, R)["run"]["info"]
    assert run["start_time"] == 1_700_000_000_000
    both = {"run_uuid": run["run_uuid"], "run_id": run["run_uuid"]}
    point = {"key": "loss", "value": "0.125", "timestamp": "1700000000123", "step": "1e+05"}
    _ask("POST", "runs/log-metric", {**both, **point}, R)
    rows = [
        {"key": "b", "value": value, "step": step, "timestamp": "1.7e+12"}
        for value, step in (("1e-05", "0"), ("-Infinity", "2e+05"), ("NaN", "3"))
    ]
    params = [{"key": "p", "value": "1e+05"}]
    _ask("POST", "runs/log-batch", {"run_id": run["run_uuid"], "metrics": rows, "params": params}, R)
    _ask("POST", "runs/update", {**both, "status": "FINISHED", "end_time": "1.8e+12"}, R)
    kept = _ask("GET", "runs/get", both, R)["run"]
    assert kept["info"]["end_time"] == 1_800_000_000_000
    assert kept["data"]["params"] == params, "text stays as it is"
    latest = {one["key"]: (one["step"], one["timestamp"]) for one in kept["data"]["metrics"]}
    assert latest == {"loss": (100_000, 1_700_000_000_123), "b": (200_000, 1_700_000_000_000)}
    history = _ask("GET", "metrics/get-history", {**both, "metric_key": "b"}, R)["metrics"]
    assert sorted(one["step"] for one in history) == [0, 3, 200_000]


def the_registry_as_r_asks_it() -> None:
    name = unique("R-model")
    _ask("POST", "registered-models/create", {"name": name, "tags": [{"key": "a", "value": "1"}]}, R)
    for _ in range(2):
        _ask("POST", "model-versions/create", {"name": name, "source": "s3://bucket/model"}, R)
    versions = _ask("GET", "registered-models/get-latest-versions", {"name": name}, R)["model_versions"]
    assert [one["version"] for one in versions] == ["2"]
    _ask("POST", "model-versions/set-tag", {"name": name, "version": "2", "key": "k", "value": "v"}, R)
    described = {"name": name, "version": "2", "description": "d"}
    assert _ask("PATCH", "model-versions/update", described, R)["model_version"]["description"] == "d"
    _ask("POST", "registered-models/alias", {"name": name, "alias": "a", "version": "2"}, R)
    found = _ask("GET", "registered-models/alias", {"name": name, "alias": "a"}, R)["model_version"]
    assert (found["version"], found["tags"]) == ("2", [{"key": "k", "value": "v"}])
    _ask("POST", "registered-models/rename", {"name": name, "new_name": f"{name}-new"}, R)
    _ask("DELETE", "model-versions/delete", {"name": f"{name}-new", "version": "1"}, R)
    _ask("DELETE", "registered-models/delete", {"name": f"{name}-new"}, R)


def a_session_of_the_java_client() -> None:
    name, now = unique("from Java"), str(int(time.time() * 1000))
    number = _ask("POST", "experiments/create", {"name": name}, JAVA)["experiment_id"]
    # protobuf's JsonFormat writes int64 as text.
    run = _ask("POST", "runs/create", {"experiment_id": number, "start_time": now}, JAVA)["run"]
    assert run["info"]["start_time"] == int(now)
    run_id = run["info"]["run_id"]
    point = {"run_uuid": run_id, "key": "m", "value": 0.25, "timestamp": now, "step": "7"}
    _ask("POST", "runs/log-metric", point, JAVA)
    _ask("POST", "runs/log-parameter", {"run_uuid": run_id, "key": "p", "value": "1"}, JAVA)
    _ask("POST", "runs/set-tag", {"run_uuid": run_id, "key": "t", "value": "x"}, JAVA)
    batch = {"metrics": [{"key": "inf", "value": "Infinity", "timestamp": now, "step": "0"}], "run_id": run_id}
    _ask("POST", "runs/log-batch", batch, JAVA)
    found = _ask("GET", "runs/get", {"run_uuid": run_id}, JAVA)["run"]
    metrics = {one["key"]: one for one in found["data"]["metrics"]}
    assert (metrics["m"]["value"], metrics["m"]["step"], metrics["m"]["timestamp"]) == (0.25, 7, int(now))
    searched = _ask("POST", "runs/search", {"experiment_ids": [number], "max_results": "10"}, JAVA)
    assert len(searched["runs"]) == 1
    listed = _ask("POST", "experiments/search", {"max_results": "1000", "filter": f"name = '{name}'"}, JAVA)
    assert [one["experiment_id"] for one in listed["experiments"]] == [number]
    _ask("POST", "runs/delete-tag", {"run_id": run_id, "key": "t"}, JAVA)
    _ask("POST", "runs/update", {"run_uuid": run_id, "status": "FAILED", "end_time": now}, JAVA)
    assert _ask("GET", "runs/get", {"run_id": run_id}, JAVA)["run"]["info"]["status"] == "FAILED"


def the_registry_as_java_asks_it() -> None:
    name = unique("java-model")
    made = _ask("POST", "registered-models/create", {"name": name}, JAVA)["registered_model"]
    assert isinstance(made["creation_timestamp"], int)
    number = _ask("POST", "experiments/create", {"name": name}, JAVA)["experiment_id"]
    run = _ask("POST", "runs/create", {"experiment_id": number, "start_time": "5"}, JAVA)["run"]["info"]
    source = f"{run['artifact_uri']}/model"
    given = {"name": name, "run_id": run["run_id"], "source": source}
    version = _ask("POST", "model-versions/create", given, JAVA)["model_version"]
    assert (version["version"], version["current_stage"], version["status"]) == ("1", "None", "READY")
    _ask("POST", "model-versions/transition-stage", {"name": name, "version": "1", "stage": "Staging"}, JAVA)
    latest = _ask("GET", "registered-models/get-latest-versions", {"name": name, "stages": ["Staging"]}, JAVA)
    assert [one["version"] for one in latest["model_versions"]] == ["1"]
    also = _ask("POST", "registered-models/get-latest-versions", {"name": name, "stages": ["Staging"]}, JAVA)
    assert also == latest
    told = _ask("GET", "model-versions/get-download-uri", {"name": name, "version": "1"}, JAVA)
    assert told["artifact_uri"] == source
    _ask("POST", "registered-models/alias", {"name": name, "alias": "a", "version": "1"}, JAVA)
    assert _ask("GET", "registered-models/alias", {"name": name, "alias": "a"}, JAVA)["model_version"]["version"] == "1"
    _ask("DELETE", "registered-models/alias", {"name": name, "alias": "a"}, JAVA)
    _ask("PATCH", "registered-models/update", {"name": name, "description": "d"}, JAVA)
    found = _ask("GET", "registered-models/get", {"name": name}, JAVA)["registered_model"]
    assert (found["description"], "aliases" in found) == ("d", False)
    _ask("DELETE", "model-versions/delete", {"name": name, "version": "1"}, JAVA)
    _ask("DELETE", "registered-models/delete", {"name": name}, JAVA)
    _ask("GET", "registered-models/get", {"name": name}, JAVA, 404)
