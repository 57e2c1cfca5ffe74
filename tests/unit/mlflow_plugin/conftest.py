"""MLflow's client on our store, offline: what it logs lies in a spool of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from runtide.tracking.process import end_open_runs
from tests.unit.mlflow_plugin.gateway_double import GatewayDouble, gateway_double


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


@pytest.fixture
def double() -> Iterator[GatewayDouble]:
    with gateway_double() as running:
        yield running
