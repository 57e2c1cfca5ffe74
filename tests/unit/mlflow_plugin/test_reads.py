"""Reads of runs that this process writes to: own writes until projections have them, others' writes always."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, RunTag

from runtide.mlflow_plugin import gateway, logged_models, projections, searching
from runtide.mlflow_plugin.memory import KEPT_POINTS
from runtide_schemas import topics
from runtide_schemas.events.logged_models import LoggedModelTagsSet
from runtide_schemas.events.runs import TagsDeleted, WriterOpened
from tests.broker_process import wait_until
from tests.unit.mlflow_plugin.gateway_double import GatewayDouble
from tests.unit.mlflow_plugin.spooled import events, refused

ALL = 1_000_000
MANY = KEPT_POINTS + 500


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for long for projections."""
    monkeypatch.setattr(searching, "SHOWN_WAIT_S", 0.3)
    monkeypatch.setattr(logged_models, "SHOWN_WAIT_S", 0.3)
    monkeypatch.setattr(projections, "_POLL_S", 0.02)
    monkeypatch.setattr(searching, "_POLL_S", 0.02)


@pytest.fixture
def client(uri: str, double: GatewayDouble) -> Iterator[MlflowClient]:
    yield MlflowClient(tracking_uri=f"{uri}&gateway={double.url}")


@pytest.fixture
def writer(run_id: str, tmp_path: Path) -> str:
    (opened,) = events(tmp_path, WriterOpened)
    return str(opened.writer_id)


def test_an_own_tag_counts_until_it_is_projected_and_then_a_later_one_of_others(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str
) -> None:
    client.set_tag(run_id, "stage", "mine")
    double.knows(run_id, tags={"stage": "older", "other": "x"})
    tags = client.get_run(run_id).data.tags
    assert (tags["stage"], tags["other"]) == ("mine", "x")
    double.has_passed(run_id, {writer: 2})
    assert client.get_run(run_id).data.tags["stage"] == "mine", "the second event is the run's start"
    double.has_passed(run_id, {writer: ALL})
    double.knows(run_id, tags={"stage": "theirs"})
    assert client.get_run(run_id).data.tags == {"stage": "theirs"}
    client.set_tag(run_id, "stage", "mine again")
    double.has_passed(run_id, {writer: 3})
    assert client.get_run(run_id).data.tags["stage"] == "mine again"


def test_a_deleted_tag_stays_away_until_others_set_it_again(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str, tmp_path: Path
) -> None:
    double.knows(run_id, tags={"theirs": "1", "t": "2"})
    client.set_tag(run_id, "t", "3")
    client.delete_tag(run_id, "t")
    client.delete_tag(run_id, "theirs")
    assert [body.keys for body in events(tmp_path, TagsDeleted)] == [("t",), ("theirs",)]
    assert not {"t", "theirs"} & set(client.get_run(run_id).data.tags)
    with refused("RESOURCE_DOES_NOT_EXIST", "No tag with name: nobodys"):
        client.delete_tag(run_id, "nobodys")
    double.has_passed(run_id, {writer: ALL})
    assert client.get_run(run_id).data.tags["t"] == "2"


def test_a_gap_in_the_log_keeps_no_own_value_for_ever(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str
) -> None:
    client.set_tag(run_id, "t", "mine")
    double.knows(run_id, tags={"t": "theirs"})
    double.has_passed(run_id, {writer: 4}, missing=((0, 1),))
    assert client.get_run(run_id).data.tags["t"] == "theirs"


def test_what_is_missing_at_the_end_is_not_passed() -> None:
    told = {"received": 4, "missing": [{"first": 1, "last": 2}, {"first": 6, "last": 9}], "final_count": 10}
    assert projections._next_number(told) == 6
    assert projections._next_number({**told, "missing": [{"first": 1, "last": 2}], "final_count": None}) == 6


def test_what_another_process_did_to_an_open_run_is_seen(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str
) -> None:
    client.log_param(run_id, "p", "mine")
    client.log_metric(run_id, "m", 1.0, step=1, timestamp=1)
    metric = {"key": "m", "last_value": 2.0, "last_timestamp": 2, "last_step": 2}
    ended = {"status": "FAILED", "end_time": 77, "name": "renamed"}
    double.knows(run_id, info=ended, params={"q": "theirs"}, metrics={"m": metric})
    before = client.get_run(run_id)
    assert (before.info.status, before.info.end_time) == ("RUNNING", None), "the start here is not known to be seen"
    assert (before.data.params, before.data.metrics) == ({"p": "mine", "q": "theirs"}, {"m": 2.0})
    double.has_passed(run_id, {writer: ALL})
    after = client.get_run(run_id).info
    assert (after.status, after.end_time, after.run_name) == ("FAILED", 77, "renamed")
    assert (after.experiment_id, after.user_id) == ("0", before.info.user_id), "where it is does not change"
    with refused("INVALID_PARAMETER_VALUE", "already logged with value='theirs'"):
        client.log_param(run_id, "q", "other")


def test_an_own_end_counts_until_it_is_projected(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str
) -> None:
    double.knows(run_id)
    double.has_passed(run_id, {writer: 3})
    client.set_terminated(run_id, "FAILED", end_time=50)
    assert client.get_run(run_id).info.status == "FAILED"
    double.has_passed(run_id, {writer: ALL})
    double.knows(run_id, info={"status": "FINISHED", "end_time": 90})
    assert client.get_run(run_id).info.status == "FINISHED", "a later end is another's"


def test_points_of_others_are_among_those_of_an_open_run(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.log_batch(run_id, [Metric("m", step / 2, step, step) for step in range(20)])
    double.has_points(run_id, "m", [(writer, 0, 0.0), (writer, 1, 0.5), ("other", 1, 0.5), ("other", 30, 9.0)])
    found = [(point.step, point.value) for point in client.get_metric_history(run_id, "m")]
    assert found == sorted([(step, step / 2) for step in range(20)] + [(1, 0.5), (30, 9.0)])
    assert caplog.text == ""


def test_points_that_are_not_remembered_are_waited_for(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SHOWN_WAIT_S", 60.0)
    monkeypatch.setattr("runtide.mlflow_plugin.runs.Runs.trouble", lambda *_: "")  # here it is offline
    many = [Metric("m", 0.5, step, step) for step in range(MANY)]
    client.log_batch(run_id, many)
    shown = MANY - 800

    def answer(_: Any) -> dict[str, Any]:
        nonlocal shown
        double.has_points(run_id, "m", [(writer, step, 0.5) for step in range(shown)])
        told: dict[str, Any] = double.answers[path]
        double.answers[path] = answer
        shown = min(MANY, shown + 200)
        return told

    path = f"runs/{run_id}/metrics/m"
    double.answers[path] = answer
    assert [point.step for point in client.get_metric_history(run_id, "m")] == list(range(MANY))


def test_a_history_that_lacks_own_points_says_so(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.log_batch(run_id, [Metric("m", 0.5, step, step) for step in range(MANY)])
    double.has_points(run_id, "m", [(writer, step, 0.5) for step in range(MANY - 10)])
    assert len(client.get_metric_history(run_id, "m")) == MANY - 10
    assert f"10 of the {MANY} points of 'm' that this process logged" in caplog.text
    assert "no broker is configured" in caplog.text


def test_without_a_gateway_a_short_history_says_so(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    client = MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("m", 0.5, step, step) for step in range(MANY)])
    assert len(client.get_metric_history(run_id, "m")) == KEPT_POINTS
    assert f"500 of the {MANY} points of 'm'" in caplog.text
    assert "RUNTIDE_GATEWAY" in caplog.text


def test_a_search_that_may_lack_own_writes_says_so(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.log_batch(run_id, tags=[RunTag("t", "v")])
    double.answers["runs"] = {"runs": [], "next_page_token": ""}
    assert client.search_runs(["0"]) == []
    assert "events or more of 1 runs are not known to be in the projections (no broker is configured)" in caplog.text
    caplog.clear()
    double.has_passed(run_id, {writer: ALL})
    assert client.search_runs(["0"]) == []
    assert "not known to be in the projections" in caplog.text, "offline nothing that is open is ever wholly there"


@pytest.mark.parametrize(("slow", "questions"), [(True, 1), (False, 3)])
def test_a_slow_gateway_is_asked_for_one_run_of_many(
    client: MlflowClient, double: GatewayDouble, monkeypatch: pytest.MonkeyPatch, slow: bool, questions: int
) -> None:
    monkeypatch.setattr(gateway, "_SOON_S", 0.2 if slow else 60.0)
    monkeypatch.setattr(searching, "SHOWN_WAIT_S", 600.0)
    run_ids = [client.create_run("0").info.run_id for _ in range(3)]
    double.answers["runs"] = {"runs": [], "next_page_token": ""}
    if slow:
        double.silent |= {f"runs/{run_id}/completeness" for run_id in run_ids}
    assert client.search_runs(["0"]) == []
    asked = [f"runs/{run_id}/completeness" for run_id in run_ids]
    if slow:
        wait_until(lambda: any(double.asked[path] for path in asked))
    assert sum(double.asked[path] for path in asked) == questions


def test_nobody_is_asked_when_the_time_is_up(double: GatewayDouble, run_id: str, writer: str) -> None:
    waiting = projections.Waiting(600.0)
    waiting.give_up()
    asked = projections.Projections(gateway.Gateway(double.url))
    assert asked.lacking(run_id, {writer: {topics.RUNS: 2, topics.METRICS: 1}}, waiting, once=True) == 3
    assert not double.asked[f"runs/{run_id}/completeness"]


def test_a_forked_child_reads_its_own_points_and_its_parents(
    client: MlflowClient, double: GatewayDouble, run_id: str, writer: str
) -> None:
    client.log_batch(run_id, [Metric("m", 1.0, 1, 1)])
    double.has_points(run_id, "m", [(writer, 1, 1.0), (writer, 2, 2.0)])
    if (pid := os.fork()) == 0:
        code = 1
        try:
            client.log_metric(run_id, "m", 3.0, step=3, timestamp=3)
            code = 0 if [point.step for point in client.get_metric_history(run_id, "m")] == [1, 2, 3] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_model_of_another_process_is_the_gateways_and_what_is_changed_here_goes_into_its_run(
    client: MlflowClient, double: GatewayDouble, tmp_path: Path
) -> None:
    run, model_id = "c" * 32, "m-" + "d" * 32
    double.knows_model(model_id, run, tags={"a": "1"}, params={"p": "1"})
    found = client.get_logged_model(model_id)
    assert (found.name, found.status, found.tags, found.params) == ("net", "READY", {"a": "1"}, {"p": "1"})
    assert [(point.key, point.value, point.dataset_name) for point in found.metrics or ()] == [("acc", 0.5, "digits")]
    client.set_logged_model_tags(model_id, {"b": "2"})
    assert events(tmp_path, LoggedModelTagsSet)[0].run_id == run
    with refused("RESOURCE_DOES_NOT_EXIST", "No tag"):
        client.delete_logged_model_tag(model_id, "none")
    (one,) = client.search_logged_models(["3"], "name = 'net'")
    assert one.model_id == model_id
    double.knows_model(model_id, run, deleted=True)
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        client.get_logged_model(model_id)
    outside = "e" * 32
    double.knows_model(f"m-{outside}", outside)
    with refused("INVALID_PARAMETER_VALUE", "made outside of any run"):
        client.set_logged_model_tags(f"m-{outside}", {"b": "2"})
    assert len(events(tmp_path, LoggedModelTagsSet)) == 1
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        client.get_logged_model("m-none")


def test_models_that_a_run_took_and_made_are_those_of_all_its_writers(
    client: MlflowClient, double: GatewayDouble, run_id: str
) -> None:
    client.log_outputs(run_id, [LoggedModelOutput("m-own", step=2)])
    models = [
        {"role": "output", "model_id": "m-theirs", "step": 1},
        {"role": "input", "model_id": "m-in", "step": None},
    ]
    double.knows(run_id, models=models)
    read = client.get_run(run_id)
    assert read.outputs is not None and read.inputs is not None
    assert {(one.model_id, one.step) for one in read.outputs.model_outputs} == {("m-own", 2), ("m-theirs", 1)}
    assert [one.model_id for one in read.inputs.model_inputs] == ["m-in"]
