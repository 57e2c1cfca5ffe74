"""Points, params and tags, as they lie in the spool and are read back."""

import math
import threading
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import (
    Metric,
    Param,
    RunTag,
)

from runtide.mlflow_plugin.memory import KEPT_POINTS
from runtide.mlflow_plugin.tracking_store import RuntideTrackingStore
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import (
    ParamsLogged,
)
from tests.unit.mlflow_plugin.spooled import events, points, refused


def test_points_are_kept_as_they_are(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    given = [(5, 10, 1.5), (7, 8, 0.25), (3, 11, math.inf), (-2, 9, -math.inf), (5, 10, 1.5)]
    for step, at, value in given:
        client.log_metric(run_id, "m", value, timestamp=at, step=step)
    client.log_metric(run_id, "n", math.nan)
    client.set_terminated(run_id)
    assert points(tmp_path, "m") == given
    assert math.isnan(points(tmp_path, "n")[0][2])
    history = client.get_metric_history(run_id, "m")
    assert [(found.timestamp, found.step, found.value) for found in history] == sorted(
        (at, step, value) for step, at, value in given
    )
    read = client.get_run(run_id).data.metrics
    assert read["m"] == 0.25, "the latest is that of the greatest step"
    assert math.isnan(read["n"])


def test_only_the_newest_points_are_remembered_and_all_are_logged(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    many = 3 * KEPT_POINTS
    for start in range(0, many, 1000):
        client.log_batch(run_id, metrics=[Metric("m", step / 4, step, step) for step in range(start, start + 1000)])
    client.set_terminated(run_id)
    assert len(points(tmp_path, "m")) == many
    kept = client.get_metric_history(run_id, "m")
    assert [found.step for found in kept] == list(range(many - KEPT_POINTS, many))


def test_the_first_value_of_a_param_stays_and_a_clash_is_recorded(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    client.log_param(run_id, "p", 1)
    client.log_param(run_id, "p", 1)
    with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed. Param with key='p'"):
        client.log_param(run_id, "p", 2)
    with refused("INVALID_PARAMETER_VALUE", "already logged with value='1'"):
        client.log_batch(run_id, params=[Param("q", "9"), Param("p", "3")], tags=[RunTag("t", "v")])
    assert client.get_run(run_id).data.params == {"p": "1"}
    assert "t" not in client.get_run(run_id).data.tags, "nothing else of a batch that clashes is logged"
    assert [dict(body.params) for body in events(tmp_path, ParamsLogged)] == [{"p": "1"}, {"p": "2"}, {"p": "3"}]


def test_long_values_are_cut_as_mlflow_does_or_refused(
    client: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.log_param(run_id, "p", "x" * 7_000)
    client.set_tag(run_id, "t", "y" * 9_000)
    read = client.get_run(run_id).data
    assert (len(read.params["p"]), len(read.tags["t"])) == (6_000, 8_000)
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    with refused("INVALID_PARAMETER_VALUE", "exceeds the maximum length of 6000"):
        client.log_param(run_id, "q", "x" * 7_000)


def test_what_cannot_be_logged_is_refused_with_mlflows_codes(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    with refused("INVALID_PARAMETER_VALUE", "Names may only contain"):
        client.log_metric(run_id, "a$b", 1.0)
    with refused("INVALID_PARAMETER_VALUE", "nonnegative"):
        client.log_metric(run_id, "m", 1.0, timestamp=-1)
    with refused("INVALID_PARAMETER_VALUE", "64 bits"):
        client.log_metric(run_id, "m", 1.0, step=2**64)
    with refused("INVALID_PARAMETER_VALUE", "NUL"):
        client.set_tag(run_id, "t", "a\x00b")
    with refused("INVALID_PARAMETER_VALUE", "Duplicate parameter keys"):
        client.log_batch(run_id, params=[Param("a", "1"), Param("a", "2")])
    with refused("INVALID_PARAMETER_VALUE", "at most 1000 metrics"):
        store = RuntideTrackingStore(client.tracking_uri)
        store.log_batch(run_id, [Metric("m", 1.0, 1, 1)] * 1001, [], [])
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_metric("no run id!", "m", 1.0)
    with refused("RESOURCE_DOES_NOT_EXIST", "No tag with name: x"):
        client.delete_tag(run_id, "x")
    assert events(tmp_path, MetricsLogged) == []


def test_threads_log_into_one_run(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    def work(number: int) -> None:
        for step in range(200):
            client.log_metric(run_id, f"m{number}", step / 2, step=step, timestamp=step)
            if step % 50 == 0:
                client.log_param(run_id, f"p{number}.{step}", step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.set_terminated(run_id)
    for number in range(6):
        assert points(tmp_path, f"m{number}") == [(step, step, step / 2) for step in range(200)]
    assert len(client.get_run(run_id).data.params) == 24


def test_mlflows_asynchronous_logging_works_too(fluent: str, tmp_path: Path) -> None:
    with mlflow.start_run():
        for step in range(50):
            mlflow.log_metric("m", step, step=step, synchronous=False)
    assert sorted(step for step, _, _ in points(tmp_path, "m")) == list(range(50))
