"""What of MLflow's store is ours, what says that it is not here, and what a tracking URI may say."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.abstract_store import AbstractStore

from runtide.mlflow_plugin.address import read_address
from runtide.mlflow_plugin.registry_store import RuntideRegistryStore
from runtide.mlflow_plugin.tracking_store import RuntideTrackingStore
from runtide.mlflow_plugin.unsupported import USED_AS_THEY_ARE
from runtide_schemas.errors import InvalidRequest
from tests.unit.mlflow_plugin.spooled import refused


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
