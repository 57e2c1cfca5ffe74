"""The callback that tells how far delivery is behind."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtide
from runtide.publisher.pool import stop_all
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import broker_with_topics


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path / "broker") as process:
        yield process
        stop_all()


def test_lag_grows_while_the_broker_is_away_and_ends_at_nothing(broker: BrokerProcess, tmp_path: Path) -> None:
    heard: list[runtide.Lag] = []
    names: set[str] = set()

    def hear(lag: runtide.Lag) -> None:
        heard.append(lag)
        names.add(threading.current_thread().name)

    broker.kill()
    runtide.init(broker=broker.address, spool=tmp_path / "spool")
    run = runtide.start_run()
    run.on_delivery(hear, every=0.01)
    for step in range(5_000):
        run.log_metric("loss", 0.5, step=step)
    wait_until(lambda: bool(heard) and heard[-1].points == 5_000 and bool(heard[-1].trouble))
    assert heard[-1].events >= 3, "opened, started, the points"
    assert heard[-1].acknowledged_events == 0
    wait_until(lambda: heard[-1].oldest_seconds > 0.2)
    broker.start()
    run.end(timeout=60)
    last = heard[-1]
    assert (last.points, last.events, last.oldest_seconds, last.trouble) == (0, 0, 0.0, "")
    assert last.acknowledged_events >= 5
    assert sorted(lag.acknowledged_events for lag in heard) == [lag.acknowledged_events for lag in heard]
    assert names == {"runtide-publisher"}


def test_a_callback_that_fails_is_said_once_and_delivery_goes_on(
    broker: BrokerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fail(lag: runtide.Lag) -> None:
        calls.append(lag)
        raise ValueError("mine")

    runtide.init(broker=broker.address, spool=tmp_path / "spool")
    with runtide.start_run() as run:
        run.on_delivery(fail, every=0.0)
        for step in range(3):
            run.log_metric("loss", 0.5, step=step)
            assert run.flush(timeout=60)
    assert len(calls) > 1
    assert capsys.readouterr().err.count("the on_delivery callback failed (ValueError: mine)") == 1


def test_offline_everything_is_outstanding(tmp_path: Path) -> None:
    heard: list[runtide.Lag] = []
    runtide.init(broker="", spool=tmp_path / "spool")
    run = runtide.start_run()
    run.on_delivery(heard.append, every=0.01)
    run.log_metric("loss", 0.5)
    wait_until(lambda: bool(heard) and heard[-1].points == 1)
    run.end()
    assert heard[-1].events >= 5, "opened, started, the point, ended, closed"
    assert heard[-1].acknowledged_events == 0
