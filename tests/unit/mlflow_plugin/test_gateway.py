"""A gateway that is slow is waited for, one that hangs or is away is not; and whether projections are behind."""

import socket
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from runtide.mlflow_plugin import gateway, patience, runs
from runtide.mlflow_plugin.gateway import AnswerLate, Gateway
from runtide.mlflow_plugin.tracking_store import RuntideTrackingStore
from runtide_schemas.errors import NotFound, TransientError
from tests.unit.mlflow_plugin.gateway_double import GatewayDouble
from tests.unit.mlflow_plugin.spooled import refused


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for long for an answer; a sign of life may take its time, on a machine that is busy."""
    monkeypatch.setattr(patience, "_THERE_S", 60.0)
    monkeypatch.setattr(patience, "_SILENCE_S", 0.05)
    monkeypatch.setattr(gateway, "_ANSWER_S", 0.4)
    monkeypatch.setattr(gateway, "_SOON_S", 0.4)
    monkeypatch.setattr(gateway, "_AWAY_S", 600.0)


@pytest.mark.usefixtures("hurried")
def test_a_gateway_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_THERE_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        silent.settimeout(0)
        asked = Gateway(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for expected in ("sign of life", "was not there a moment ago", "was not there a moment ago"):
            with pytest.raises(TransientError, match=expected):
                asked.get("runs", "a" * 32)
        taken: list[socket.socket] = []
        while len(taken) < 2:  # the question, and whether there is anybody
            taken.append(silent.accept()[0])
        with pytest.raises(BlockingIOError):
            silent.accept()
        for connection in taken:
            connection.close()


@pytest.mark.usefixtures("hurried")
def test_a_gateway_that_is_slow_is_not_away(double: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    double.answers["experiments"] = {"experiments": []}
    double.silent.add("runs")
    asked = Gateway(double.url)
    for _ in range(2):
        monkeypatch.setattr(gateway, "_ANSWER_S", 0.4)
        monkeypatch.setattr(patience, "_SILENCE_S", 0.05)
        with pytest.raises(AnswerLate, match=r"is there, and has not answered runs in 0\.4 s"):
            asked.get("runs")
        monkeypatch.setattr(gateway, "_ANSWER_S", 60.0)
        monkeypatch.setattr(patience, "_SILENCE_S", 60.0)
        assert asked.get("experiments") == {"experiments": []}, "others are asked all the same"
    double.was_asked("runs", 2)
    assert double.asked["runs"] == 2
    assert double.asked["health"] == 2


def test_an_answer_that_takes_its_time_is_the_answer(double: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_SILENCE_S", 0.1)
    double.answers["runs"] = {"runs": []}
    double.silent.add("runs")

    def answer_now(_: Any) -> dict[str, str]:
        double.let_go.set()
        return {"status": "ok"}

    double.answers["health"] = answer_now
    assert Gateway(double.url).get("runs") == {"runs": []}
    assert double.asked["health"] == 1


@pytest.mark.parametrize(
    ("ready", "behind"),
    [
        ({"projections": {"postgres": {"events_behind": 0}, "duckdb": {"events_behind": 0}}}, False),
        ({"projections": {"postgres": {"events_behind": 0}, "duckdb": {"events_behind": 3}}}, True),
        ({"projections": {"postgres": {"events_behind": None}, "duckdb": {"events_behind": 0}}}, True),
        ({"projections": {"postgres": {"events_behind": 0}}}, True),
        (
            {"projections": {name: {"events_behind": int(name == "mine")} for name in ("postgres", "duckdb", "mine")}},
            False,
        ),
        ({"surprise": 1}, True),
        (None, True),
    ],
)
def test_projections_are_behind_unless_they_say_otherwise(double: GatewayDouble, ready: Any, behind: bool) -> None:
    if ready is not None:
        double.answers["ready"] = ready
    assert Gateway(double.url).behind() is behind


def test_a_run_is_joined_unheard_of_only_while_projections_are_behind(
    double: GatewayDouble, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_VISIBLE_WAIT_S", 0.0)
    run_id, told = "e" * 32, {"events_behind": 2}
    double.answers["ready"] = {"projections": {"postgres": {"events_behind": 0}, "duckdb": told}}
    store = RuntideTrackingStore(f"{uri}&gateway={double.url}")
    assert store.get_run(run_id).info.status == "RUNNING"
    told["events_behind"] = 0
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        store.get_run(run_id)


def test_a_refused_connection_is_tried_again(double: GatewayDouble) -> None:
    double.answers["runs"] = {"runs": []}
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        asked = Gateway(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(TransientError, match="no answer"):
            asked.get("runs")
        asked._url = double.url  # as if the stack had come up
        assert asked.get("runs") == {"runs": []}


def test_an_answer_that_trickles_is_late(double: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_ANSWER_S", 0.5)
    double.answers["runs"] = {"runs": []}
    double.trickling.add("runs")
    with pytest.raises(AnswerLate, match="has not answered runs"):
        Gateway(double.url).get("runs")


def test_what_is_not_there_is_not_found(double: GatewayDouble) -> None:
    with pytest.raises(NotFound, match="no runs/x"):
        Gateway(double.url).get("runs", "x")


@pytest.mark.usefixtures("hurried")
def test_an_own_run_is_shown_while_the_gateway_is_slow_and_that_is_said(
    double: GatewayDouble, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(tracking_uri=f"{uri}&gateway={double.url}")
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("m", 1.0, 1, 1)])
    double.silent |= {f"runs/{run_id}", f"runs/{run_id}/completeness", f"runs/{run_id}/metrics/m"}
    assert client.get_run(run_id).data.metrics == {"m": 1.0}
    assert "without what others may have" in caplog.text and "has not answered" in caplog.text
    assert [point.value for point in client.get_metric_history(run_id, "m")] == [1.0]
    assert "those of this process only" in caplog.text


@pytest.mark.usefixtures("hurried")
def test_a_foreign_run_is_no_guess_while_the_gateway_is_slow(double: GatewayDouble, uri: str) -> None:
    double.silent |= {f"runs/{'d' * 32}/metrics/m", "runs"}
    client = MlflowClient(tracking_uri=f"{uri}&gateway={double.url}")
    with refused("TEMPORARILY_UNAVAILABLE", "has not answered"):
        client.get_metric_history("d" * 32, "m")
    with refused("TEMPORARILY_UNAVAILABLE", "has not answered"):
        client.search_runs(["0"])
