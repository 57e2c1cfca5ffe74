"""Runs and threads that come and go between each other's calls: no write is lost, and no end is unsaid."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunTag

from runtide.mlflow_plugin import open_runs
from runtide.mlflow_plugin.live import Live
from runtide.mlflow_plugin.memory import Fact, RunMemory
from runtide.mlflow_plugin.tracking_store import RuntideTrackingStore
from runtide.tracking.writer import Writer
from runtide_schemas.events.runs import RunUpdated, TagsSet, WriterOpened
from tests.unit.mlflow_plugin.gateway_double import GatewayDouble
from tests.unit.mlflow_plugin.spooled import events


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few runs be many."""
    monkeypatch.setattr(open_runs, "_MOST_JOINED", 2)
    monkeypatch.setattr(open_runs, "_MOST_WAITING", 4)


def test_more_ended_runs_than_stay_open_are_written_to_again(client: MlflowClient, tmp_path: Path) -> None:
    run_ids = [client.create_run("0").info.run_id for _ in range(4)]
    for run_id in run_ids:
        client.set_terminated(run_id)
    for run_id in reversed(run_ids):
        client.set_tag(run_id, "late", run_id)
    assert sorted(body.run_id for body in events(tmp_path, TagsSet) if "late" in body.tags) == sorted(run_ids)


def test_more_foreign_runs_than_stay_open_take_turns(uri: str, tmp_path: Path) -> None:
    store = RuntideTrackingStore(uri)
    run_ids = [f"{number:032x}" for number in range(4)]
    for turn in range(3):
        for run_id in run_ids:
            store.set_tag(run_id, RunTag(f"turn{turn}", run_id))
    assert len(events(tmp_path, TagsSet)) == 12
    assert len(store._runs._waiting) <= 4 + 1, "closed writers are let go of"


def test_the_run_that_rested_longest_is_closed(uri: str, tmp_path: Path) -> None:
    store = RuntideTrackingStore(uri)
    for run_id in ("a" * 32, "b" * 32, "a" * 32, "c" * 32, "a" * 32):
        store.set_tag(run_id, RunTag("t", "v"))
    opened = [body.run_id for body in events(tmp_path, WriterOpened)]
    assert sorted(opened) == ["a" * 32, "b" * 32, "c" * 32]


def test_a_foreign_run_is_taken_up_once(client: MlflowClient, tmp_path: Path) -> None:
    for _ in range(2):
        client.update_run("a" * 32, status="RUNNING")
    assert [body.status for body in events(tmp_path, RunUpdated)] == ["RUNNING"]


CHANGES: dict[str, tuple[Callable[[MlflowClient, str], None], str, str]] = {
    "end": (lambda client, run_id: client.set_terminated(run_id, "FAILED"), "FAILED", "active"),
    "going on": (lambda client, run_id: client.update_run(run_id, status="SCHEDULED"), "SCHEDULED", "active"),
    "deletion": (lambda client, run_id: client.delete_run(run_id), "RUNNING", "deleted"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_read_of_another_thread_undoes_no_change(
    uri: str, double: GatewayDouble, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    client = MlflowClient(tracking_uri=f"{uri}&gateway={double.url}")
    run_id = client.create_run("0").info.run_id
    (writer,) = (live.writer for live in _lives(client).values())
    double.knows(run_id)
    double.has_passed(run_id, {writer.id: 2})
    known, reading = Live.note, threading.Thread(target=client.get_run, args=(run_id,))

    def note(live: Live, noted: Writer, *facts: Fact) -> None:
        if facts and not reading.ident:
            reading.start()
            reading.join(0.3)  # it may have to wait for us
        known(live, noted, *facts)

    monkeypatch.setattr(Live, "note", note)
    done, status, stage = CHANGES[change]
    done(client, run_id)
    reading.join()
    info = client.get_run(run_id).info
    assert (info.status, info.lifecycle_stage) == (status, stage)


def test_a_writer_that_another_thread_lets_go_of_is_no_trouble() -> None:
    broker: Any = SimpleNamespace(connection=SimpleNamespace(offline=False), publisher=SimpleNamespace(trouble="gone"))
    seen: list[Any] = [broker, None]

    class Vanishing(Live):
        @property
        def writer(self) -> Any:
            return seen.pop(0)

        @writer.setter
        def writer(self, _: Any) -> None: ...

    log: Any = None
    assert Vanishing(RunMemory(run_id="a" * 32), log, joined=False).trouble == "gone"


def _lives(client: MlflowClient) -> dict[str, Any]:
    store: Any = client._tracking_client.store
    lives: dict[str, Any] = store._runs._lives
    return lives
