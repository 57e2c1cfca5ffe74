"""From the call to the log: everything, once, in order, whatever the broker does meanwhile."""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import runtide
from runtide.kafka import KafkaSettings
from runtide.publisher.pool import stop_all
from runtide.sync import sync
from runtide_schemas import topics
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ParamsLogged,
    RunEnded,
    RunStarted,
    TagsDeleted,
    TagsSet,
    WriterOpened,
)
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, deduplicated, points_of, read_log


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path / "broker") as process:
        yield process
        stop_all()


@pytest.fixture
def spool(tmp_path: Path, broker: BrokerProcess) -> Path:
    runtide.init(experiment="digits", broker=broker.address, spool=tmp_path / "spool")
    return tmp_path / "spool"


def spools_in(spool: Path) -> list[Path]:
    return [path.parent for path in spool.glob("*/*/writer.json")]


def test_everything_arrives_once_in_order_and_the_spool_is_gone(broker: BrokerProcess, spool: Path) -> None:
    with runtide.start_run("one", tags={"team": "blue"}) as run:
        runtide.log_params({"rate": 0.1, "layers": 3})
        runtide.log_param("seed", 7)
        for step in range(10_000):
            runtide.log_metric("loss", step * 0.5, step=step)
        run.log_metrics({"accuracy": 1, "f1": np.float32(0.5)}, step=3, timestamp=1234)
        run.set_tag("stage", "test")
        run.delete_tag("team")
        run.log_input("digits", "abc", source="sklearn", source_type="local", tags={"context": "training"})
        stored = run.log_text("hello", "notes/hello.txt")
    events = read_log(broker.address, run.run_id)
    assert_complete(events)
    assert points_of(events, "loss") == [(step, step * 0.5) for step in range(10_000)]
    assert points_of(events, "f1") == [(3, 0.5)]
    (started,) = bodies(events, RunStarted)
    assert (started.name, started.tags, started.experiment_name) == ("one", {"team": "blue"}, "digits")
    (request,) = [event for event in events if isinstance(event.body, CreateExperiment)]
    assert (started.experiment_id, started.experiment_request) == ("", request.envelope.id)
    assert (request.body.name, request.body.if_exists) == ("digits", "resolve")
    assert [body.params for body in bodies(events, ParamsLogged)] == [{"rate": "0.1", "layers": "3"}, {"seed": "7"}]
    assert [body.tags for body in bodies(events, TagsSet)] == [{"stage": "test"}]
    assert [body.keys for body in bodies(events, TagsDeleted)] == [("team",)]
    assert [body.datasets[0].digest for body in bodies(events, InputsLogged)] == ["abc"]
    assert [(body.path, body.sha256) for body in bodies(events, ArtifactLogged)] == [(stored.path, stored.sha256)]
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"]
    assert {event.envelope.subject for event in events if event.topic != topics.REQUESTS} == {run.run_id}
    assert spools_in(spool) == []


def test_what_is_logged_is_visible_soon(broker: BrokerProcess, spool: Path) -> None:
    with runtide.start_run() as run:
        assert run.flush(timeout=60)
        waits: dict[bool, list[float]] = {False: [], True: []}
        for step in range(20):
            before = time.perf_counter()
            position = run.writer.spool.acked(topics.METRICS)
            run.log_metric("loss", 0.5, step=step)
            if flushed := step % 2 == 1:
                assert run.flush(timeout=60)
            else:
                wait_until(lambda position=position: run.writer.spool.acked(topics.METRICS) > position)  # type: ignore[misc]
            waits[flushed].append(time.perf_counter() - before)
    without, control = (statistics.median(waits[flushed]) for flushed in (False, True))
    assert without < 0.3 + 4 * control, "without flush; the goal on a quiet machine is 50 ms"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_training_goes_on_while_the_broker_is_away(broker: BrokerProcess, spool: Path, end: str) -> None:
    with runtide.start_run() as run:
        for step in range(5_000):
            run.log_metric("loss", float(step), step=step)
        getattr(broker, end)()
        slowest = 0.0
        for step in range(5_000, 60_000):
            before = time.perf_counter()
            run.log_metric("loss", float(step), step=step)
            slowest = max(slowest, time.perf_counter() - before)
        run.log_param("while", "away")
        assert not run.flush(timeout=0.5)
        broker.start()
        assert run.flush(timeout=60)
    assert slowest < 5, "no call waited for the broker"
    events = deduplicated(read_log(broker.address, run.run_id))
    assert_complete(events)
    assert [step for step, _ in points_of(events, "loss")] == list(range(60_000))


def test_a_broker_that_was_never_there_gets_it_all_by_sync(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIDE_EXIT_DEADLINE", "100")
    runtide.init(broker="127.0.0.1:9", spool=tmp_path / "spool")
    run = runtide.start_run("lonely")
    run.log_metrics({"a": 1.0, "b": 2.0})
    before = time.monotonic()
    run.end(timeout=1)
    assert time.monotonic() - before < 60
    stop_all()
    (directory,) = spools_in(tmp_path / "spool")
    said = capfd.readouterr().err
    assert "run lonely: " in said
    assert "not delivered" in said
    assert f"runtide sync {directory}" in said
    with broker_with_topics(tmp_path / "broker") as broker:
        report = sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address))
        assert report.complete
        events = read_log(broker.address, run.run_id)
    assert_complete(events)
    assert points_of(events, "b") == [(0, 2.0)]
    assert not directory.exists()


def test_threads_share_one_run(broker: BrokerProcess, spool: Path) -> None:
    with runtide.start_run() as run:

        def work(number: int) -> None:
            for step in range(3_000):
                runtide.log_metric(f"metric {number}", float(step), step=step)
                if step % 100 == 0:
                    run.log_param(f"{number}/{step}", step)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = read_log(broker.address, run.run_id)
    assert_complete(events)
    for number in range(8):
        assert points_of(events, f"metric {number}") == [(step, float(step)) for step in range(3_000)]
    assert len(bodies(events, ParamsLogged)) == 240


def test_many_runs_in_one_process(broker: BrokerProcess, spool: Path) -> None:
    parent = runtide.start_run("parent")
    for number in range(20):
        with runtide.start_run(f"trial {number}", nested=True) as trial:
            runtide.log_metric("score", float(number))
    runtide.log_metric("best", 19.0)
    runtide.end_run()
    events = read_log(broker.address)
    assert_complete(events)
    started = bodies(events, RunStarted)
    assert [body.parent_run_id for body in started].count(parent.run_id) == 20
    assert [value for _, value in points_of(read_log(broker.address, trial.run_id), "score")] == [19.0]
    assert points_of(read_log(broker.address, parent.run_id), "best") == [(0, 19.0)]


def test_an_attached_writer_neither_starts_nor_ends_the_run(broker: BrokerProcess, spool: Path) -> None:
    with runtide.start_run() as run:
        with runtide.attach(run.run_id) as member:
            member.log_metric("helper", 1.0)
        run.log_metric("main", 2.0)
    events = read_log(broker.address, run.run_id)
    assert_complete(events)
    assert (len(bodies(events, RunStarted)), len(bodies(events, RunEnded))) == (1, 1)
    assert len(bodies(events, WriterOpened)) == 2


async def test_async_runs_are_the_same_core(broker: BrokerProcess, spool: Path) -> None:
    async with runtide.AsyncRun("async") as run:
        run.log_params({"a": 1})
        run.log_metric("loss", 0.5)
        await run.log_dict({"a": [1, 2]}, "config.json")
        assert await run.flush(timeout=60)
    events = await asyncio.to_thread(read_log, broker.address, run.run_id)
    assert_complete(events)
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"]
    with pytest.raises(ValueError, match="no luck"):
        async with runtide.AsyncRun("async") as failing:
            raise ValueError("no luck")
    (ended,) = bodies(await asyncio.to_thread(read_log, broker.address, failing.run_id), RunEnded)
    assert (ended.status, ended.reason) == ("FAILED", "ValueError: no luck")
