"""Logging through the gateway: the same promises as over Kafka, whoever dies on the way."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtide
from runtide.connection import Connection
from runtide.publisher.pool import stop_all
from runtide.sync import sync
from runtide_schemas.events.liveness import WriterAlive
from runtide_schemas.events.runs import ParamsLogged, RunEnded, RunStarted
from tests.broker_process import wait_until
from tests.integration.http_log import LOG_TOKEN, HttpLog, running_http_log, token_settings
from tests.integration.sdk_log import (
    TELLS_ITS_PATIENCE,
    assert_complete,
    bodies,
    child,
    deduplicated,
    finished,
    patience_of,
    points_of,
    read_log,
)

pytestmark = pytest.mark.gate


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpLog]:
    for name in ("RUNTIDE_BROKER", "RUNTIDE_KAFKA_BOOTSTRAP", "RUNTIDE_URI"):
        monkeypatch.delenv(name, raising=False)
    with running_http_log(tmp_path) as running:
        runtide.init(experiment="digits", uri=running.gateway.url, spool=tmp_path / "spool", artifacts=str(tmp_path))
        yield running
        stop_all()


def test_everything_arrives_once_in_order_and_unchanged(http: HttpLog, tmp_path: Path) -> None:
    with runtide.start_run("one", tags={"team": "blue"}) as run:
        runtide.log_params({"rate": 0.1, "layers": 3})
        for step in range(100_000):
            runtide.log_metric("loss", step * 0.5, step=step)
        kept = run.log_text("hello", "notes/hello.txt")
        writer = run.writer.id
        assert run.flush(timeout=60)
    events = read_log(http.broker.address, run.run_id)
    assert_complete(events)
    assert points_of(events, "loss") == [(step, step * 0.5) for step in range(100_000)]
    assert [body.params for body in bodies(events, ParamsLogged)] == [{"rate": "0.1", "layers": "3"}]
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"]
    assert (tmp_path / run.run_id / "artifacts" / kept.path).read_text() == "hello"
    (started,) = (event for event in events if isinstance(event.body, RunStarted))
    assert (started.envelope.source, started.envelope.writer) == (f"/writers/{writer}", writer)
    assert list((tmp_path / "spool").glob("*/*/writer.json")) == []


@pytest.mark.gate
def test_a_gateway_that_dies_loses_and_doubles_nothing(http: HttpLog) -> None:
    """Killed again and again while points pour in, and away when the run begins to end."""
    killing = threading.Event()

    def kill_and_start() -> None:
        for _ in range(5):
            killing.wait(0.3)
            assert http.gateway.process is not None
            http.gateway.process.kill()
            http.gateway.process.wait()
            http.gateway.start()

    killer = threading.Thread(target=kill_and_start)
    with runtide.start_run() as run:
        killer.start()
        step = 0
        while killer.is_alive():
            run.log_metric("loss", float(step), step=step)
            step += 1
            if step % 1_000 == 0:
                time.sleep(0.01)  # a training step
        killer.join()
        assert run.flush(timeout=60)
    events = deduplicated(read_log(http.broker.address, run.run_id))
    assert_complete(events)
    assert [at for at, _ in points_of(events, "loss")] == list(range(step))


def test_a_broker_behind_the_gateway_may_be_away(http: HttpLog) -> None:
    with runtide.start_run() as run:
        run.log_metric("loss", 0.0, step=0)
        assert run.flush(timeout=60)
        http.broker.kill()
        for step in range(1, 20_000):
            run.log_metric("loss", float(step), step=step)
        assert not run.flush(timeout=1)
        http.broker.start()
        assert run.flush(timeout=90)
    events = deduplicated(read_log(http.broker.address, run.run_id))
    assert_complete(events)
    assert [step for step, _ in points_of(events, "loss")] == list(range(20_000))


IDLE = """
import sys, runtide
with runtide.start_run() as run:
    print(run.run_id, flush=True)
    sys.stdin.readline()
"""


def test_signs_of_life_come_through_the_gateway(http: HttpLog, tmp_path: Path) -> None:
    away = {"RUNTIDE_URI": http.gateway.url, "RUNTIDE_ARTIFACTS": str(tmp_path), "RUNTIDE_LEASE": "0.5"}
    trainer = child(IDLE, broker="", spool=tmp_path / "theirs", variables=away, steered=True)
    try:
        assert trainer.stdout is not None
        run_id = trainer.stdout.readline().strip()
        wait_until(lambda: len(bodies(read_log(http.broker.address), WriterAlive)) >= 2, seconds=60)
        _, errors = trainer.communicate("\n", timeout=120)
        assert trainer.returncode == 0, errors
    finally:
        trainer.kill()
        trainer.communicate()
    events = read_log(http.broker.address, run_id)
    assert_complete(deduplicated(events))
    assert {sign.run_id for sign in bodies(read_log(http.broker.address), WriterAlive)} == {run_id}


TRAINER = """
import sys, runtide
with runtide.start_run() as run:
    print(run.run_id, flush=True)
    step = 0
    while True:
        run.log_metric("loss", float(step), step=step)
        print(step, flush=True)
        step += 1
"""


def test_a_killed_trainer_is_synced_through_the_gateway(http: HttpLog, tmp_path: Path) -> None:
    away = {"RUNTIDE_URI": http.gateway.url, "RUNTIDE_ARTIFACTS": str(tmp_path)}
    trainer = child(TRAINER, broker="", spool=tmp_path / "trainer", variables=away)
    assert trainer.stdout is not None
    run_id = trainer.stdout.readline().strip()
    last = [int(trainer.stdout.readline()) for _ in range(2_000)][-1]
    trainer.kill()
    trainer.communicate()
    command = [sys.executable, "-m", "runtide_deploy.cli", "sync", "--uri", http.gateway.url, str(tmp_path / "trainer")]
    synced = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert synced.returncode == 0, synced.stdout + synced.stderr
    events = deduplicated(read_log(http.broker.address, run_id))
    assert_complete(events)
    steps = [step for step, _ in points_of(events, "loss")]
    assert steps == list(range(len(steps)))
    assert len(steps) > last
    assert [body.status for body in bodies(events, RunEnded)] == ["KILLED"]


def test_a_job_needs_the_log_token_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_http_log(tmp_path, **token_settings()) as http:
        monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN", "wrong")
        runtide.init(uri=http.gateway.url, spool=tmp_path / "spool", artifacts=str(tmp_path))
        with runtide.start_run() as run:
            run.log_metric("loss", 1.0)
            wait_until(lambda: bool(run.writer.publisher.refused))
            assert "RUNTIDE_GATEWAY_TOKEN" in run.writer.publisher.refused
            run.end(timeout=0.5)
        stop_all()
        refused = Connection.resolve(uri=http.gateway.url).transport()
        assert refused is not None
        assert "RUNTIDE_GATEWAY_TOKEN" in sync([tmp_path / "spool"], refused).refused
        (tmp_path / "token").write_text(LOG_TOKEN)
        monkeypatch.delenv("RUNTIDE_GATEWAY_TOKEN")
        monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN_FILE", str(tmp_path / "token"))
        transport = Connection.resolve(uri=http.gateway.url).transport()
        assert transport is not None
        assert sync([tmp_path / "spool"], transport).complete
        assert_complete(read_log(http.broker.address, run.run_id))


LONELY = """
import runtide
with runtide.start_run("lonely") as run:
    run.log_metrics({"a": 1.0, "b": 2.0})
    print(run.run_id, flush=True)
"""


def test_a_gateway_that_was_never_there_holds_nobody_up_and_gets_it_all_by_sync(tmp_path: Path) -> None:
    away = {"RUNTIDE_URI": "http://127.0.0.1:9", "RUNTIDE_EXIT_DEADLINE": "3"}
    code, out, said = finished(child(TELLS_ITS_PATIENCE + LONELY, broker="", spool=tmp_path / "spool", variables=away))
    run_id, _ = out.splitlines()
    assert 0 <= patience_of(out) <= 3
    assert code == 0, said
    assert "run lonely: " in said
    assert f"runtide sync {tmp_path / 'spool'}" in said
    with running_http_log(tmp_path) as http:
        transport = Connection.resolve(uri=http.gateway.url).transport()
        assert transport is not None
        assert sync([tmp_path / "spool"], transport).complete
        events = read_log(http.broker.address, run_id)
    assert_complete(events)
    assert points_of(events, "b") == [(0, 2.0)]


def test_requests_are_made_and_answered_through_the_gateway(http: HttpLog, tmp_path: Path) -> None:
    environment = os.environ | {"RUNTIDE_KAFKA_BOOTSTRAP": http.broker.address}
    command = [sys.executable, "-m", "runtide_consumers.registrar"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as registrar:
        try:
            assert registrar.stdout is not None
            assert registrar.stdout.readline().startswith("ready")
            model = runtide.LoggedModel(model_id="m-1", uri="s3://bucket/model", digest="d" * 64)
            assert [runtide.register_model("digits", model).version for _ in range(3)] == [1, 2, 3]
            runtide.set_alias("digits", "champion", 2)
            with pytest.raises(runtide.InvalidRequest, match="9"):
                runtide.set_alias("digits", "champion", 9)
        finally:
            registrar.kill()
    with pytest.raises(runtide.AnswerPending, match="no answer yet"):
        runtide.register_model("digits", model, wait=1)


FORKER = """
import os, sys, runtide
with runtide.start_run() as run:
    run.log_metric("loss", 0.0, step=0)
    print(run.run_id, flush=True)
    for number in range(1, 4):
        if not (pid := os.fork()):
            for step in range(1000):
                run.log_metric(f"loss{number}", float(step), step=step)
            sys.exit()
        os.waitpid(pid, 0)
    run.log_metric("loss", 1.0, step=1)
"""


def test_forked_children_log_through_the_gateway_too(http: HttpLog, tmp_path: Path) -> None:
    away = {"RUNTIDE_URI": http.gateway.url, "RUNTIDE_ARTIFACTS": str(tmp_path)}
    code, out, errors = finished(child(FORKER, broker="", spool=tmp_path / "forks", variables=away))
    assert code == 0, errors
    events = read_log(http.broker.address, out.strip())
    assert_complete(events)
    for number in range(1, 4):
        assert points_of(events, f"loss{number}") == [(step, float(step)) for step in range(1000)]


@pytest.mark.slow
def test_many_writers_share_the_gateway(http: HttpLog) -> None:
    runs = [runtide.start_run(f"run {number}", nested=number > 0) for number in range(20)]
    for step in range(500):
        for run in runs:
            run.log_metric("loss", float(step), step=step)
    for run in reversed(runs):
        run.end()
    for run in runs:
        mine = read_log(http.broker.address, run.run_id)
        assert_complete(mine)
        assert [step for step, _ in points_of(mine, "loss")] == list(range(500))


@pytest.mark.slow
async def test_the_async_face_logs_through_the_gateway(http: HttpLog) -> None:
    async with runtide.AsyncRun(name="async") as run:
        for step in range(100):
            run.log_metric("loss", float(step), step=step)
        assert await run.flush(timeout=60)
    events = await asyncio.to_thread(read_log, http.broker.address, run.run_id)
    assert_complete(events)
    assert [step for step, _ in points_of(events, "loss")] == list(range(100))
