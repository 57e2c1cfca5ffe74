"""A disk that stalls or takes nothing: nothing that was logged is lost, and nothing incomplete reads as complete."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtide
from runtide.kafka import KafkaSettings
from runtide.publisher.pool import stop_all
from runtide.spool.tail import FIRST_CAPACITY
from runtide.sync import sync
from runtide_schemas.events.runs import WriterClosed
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, points_of, read_log


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path / "broker") as process:
        yield process
        stop_all()


def test_points_that_cannot_be_sealed_in_time_are_left_over_and_not_deleted(
    broker: BrokerProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runtide.init(broker=broker.address, spool=tmp_path / "spool")
    run = runtide.start_run("stalled")
    assert run.flush(timeout=60)
    spool = run.writer.spool
    held, done = threading.Event(), threading.Event()

    def stall() -> None:
        with spool._sealing:
            held.set()
            done.wait(120)

    stalled = threading.Thread(target=stall)
    stalled.start()
    assert held.wait(60)
    for step in range(1_000):
        run.log_metric("loss", step * 0.5, step=step)
    run.end(timeout=1)
    done.set()
    stalled.join()
    assert "could not be written as events in time" in capfd.readouterr().err
    assert bodies(read_log(broker.address, run.run_id), WriterClosed) == []
    assert spool.directory.exists()

    assert sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).complete
    events = read_log(broker.address, run.run_id)
    assert_complete(events)
    assert points_of(events, "loss") == [(step, step * 0.5) for step in range(1_000)]
    assert not spool.directory.exists()


def test_a_spool_is_served_on_after_the_disk_was_full(
    broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtide.init(broker=broker.address, spool=tmp_path / "spool")
    run = runtide.start_run("full")
    assert run.flush(timeout=60)
    failures: list[str] = []

    def full(*_: object) -> None:
        failures.append("full")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run.writer.spool, "save_acknowledged", full)
        run.log_metric("loss", 0.5)
        wait_until(lambda: len(failures) > 1)
    assert "No space left on device" in caplog.text
    run.log_metric("loss", 0.25)
    run.end(timeout=60)
    assert [value for _, value in points_of(read_log(broker.address, run.run_id), "loss")] == [0.5, 0.25]
    assert not list((tmp_path / "spool").glob("*/*/writer.json"))


def test_a_run_that_ends_on_a_full_disk_is_left_over_whole(
    broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIDE_EXIT_DEADLINE", "100")
    runtide.init(broker=broker.address, spool=tmp_path / "spool")
    run = runtide.start_run("full at its end")
    run.log_metric("loss", 0.0, step=0)
    assert run.flush(timeout=60)
    directory = run.writer.spool.directory

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for step in range(1, FIRST_CAPACITY + 10):
            run.log_metric("loss", step * 0.5, step=step)
        began = time.monotonic()
        run.end(timeout=1)
        assert time.monotonic() - began < 60, "an end does not hang"
    assert "could not be written as events in time" in capfd.readouterr().err
    assert bodies(read_log(broker.address, run.run_id), WriterClosed) == []
    assert len(list(directory.glob("*.tail"))) == 2, "points that are only in memory as events stay in the tail"

    assert sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).complete
    events = read_log(broker.address, run.run_id)
    assert_complete(events)
    assert points_of(events, "loss") == [(step, step * 0.5) for step in range(FIRST_CAPACITY + 10)]
    assert not directory.exists()
