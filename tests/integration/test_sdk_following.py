"""``runtide sync`` while training goes on, on its machine: nothing lost, nothing twice, no run ended."""

import contextlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.spool.inspection import summarize
from runtide.sync import SpoolReport, find_spools
from runtide_schemas.events.runs import RunEnded
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import bodies, broker_with_topics, deduplicated, finished, points_of, read_log
from tests.integration.steered_trainer import PATIENCE_S, Trainer, check, contents, sync_one

SYNC = """
import ctypes, sys
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())  # root may not write either
from pathlib import Path
from runtide.kafka import KafkaSettings
from runtide.sync import sync
while True:
    (spool,) = sync([Path(sys.argv[1])], KafkaSettings(bootstrap=sys.argv[2])).spools
    print(spool.state, spool.sent, spool.events, spool.problem, flush=True)
    if sys.argv[3] == "once":
        break
"""


CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("following") / "broker") as process:
        yield process


def test_a_living_offline_run_arrives_while_it_goes_on_and_is_not_ended(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    for lot in range(1, 5):
        trainer.log(3_000)
        trainer.wait()
        reports: list[SpoolReport] = []

        def all_arrived(lot: int = lot, reports: list[SpoolReport] = reports) -> bool:
            reports.append(sync_one(tmp_path / "spool", broker))
            return len(points_of(read_log(broker.address, trainer.run_id), "loss")) == 3_000 * lot

        wait_until(all_arrived, PATIENCE_S)
        assert {(report.state, report.problem, report.events - report.sent) for report in reports} == {
            ("followed", "", 0)
        }
        assert "lives" in reports[-1].note
        assert summarize(reports[-1].directory).state == "live"
    assert bodies(read_log(broker.address, trainer.run_id), RunEnded) == []
    trainer.end()
    report = sync_one(tmp_path / "spool", broker)
    assert (report.state, report.problem) == ("sent", "")
    assert list(find_spools([tmp_path / "spool"])) == []
    log = read_log(broker.address, trainer.run_id)
    check(log, trainer.points, ["FINISHED"], ["finished"])
    assert len(log) == len(deduplicated(log)), "what was sent is remembered"


def test_a_run_that_sends_itself_is_left_alone(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool", broker.address)
    trainer.log(100)
    trainer.wait()
    report = sync_one(tmp_path / "spool", broker)
    assert (report.state, report.events, report.problem) == ("left alone", 0, "")
    assert "lives, and sends it" in report.note
    trainer.end()
    log = read_log(broker.address, trainer.run_id)
    check(log, 100, ["FINISHED"], ["finished"])
    assert len(log) == len(deduplicated(log))


def test_a_run_in_another_container_of_this_machine_is_followed_and_its_death_is_seen(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    if subprocess.run([*CONTAINER, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare may not make process id namespaces here")
    trainer = Trainer(tmp_path / "spool", within=CONTAINER)
    trainer.log(1_000)
    trainer.wait()
    (directory,) = find_spools([tmp_path / "spool"])
    manifest = json.loads((directory / "writer.json").read_text())
    assert manifest["pid"] == 1, "ids count anew there"
    copy = Path(shutil.copytree(directory, tmp_path / "copy" / directory.parent.name / directory.name))
    wait_until(lambda: sync_one(directory, broker).sent > 0, PATIENCE_S)
    report = sync_one(directory, broker)
    assert (report.state, report.problem) == ("followed", "")
    assert "another process has it" in report.note
    trainer.kill()
    assert "may live" in sync_one(copy, broker).problem, "nothing is known of who runs where a copy was made"
    report = sync_one(directory, broker)
    assert (report.state, report.problem) == ("sent", "")
    check(read_log(broker.address, trainer.run_id), 1_000, ["KILLED"], ["recovered"])


def sync_in_a_process(directory: Path, broker: BrokerProcess, how: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SYNC, str(directory), broker.address, how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_directory_that_cannot_be_written_is_followed_again_and_again(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(1_000)
    trainer.end()
    (directory,) = find_spools([tmp_path / "spool"])
    for path in directory.iterdir():
        path.chmod(0o400)
    directory.chmod(0o500)
    before = contents(directory)
    try:
        for _ in range(2):
            code, out, errors = finished(sync_in_a_process(directory, broker, "once"))
            assert code == 0, errors
            state, sent, events, problem = out.split(maxsplit=3)
            assert (state, sent) == ("followed", events)
            assert int(sent) > 2, "it was not noted, so all of it was sent again"
            assert "Permission denied" in problem
            assert "sync it where it can be written" in problem
        assert contents(directory) == before
        assert not (directory / "followed").exists()
    finally:
        directory.chmod(0o700)
        for path in directory.iterdir():
            path.chmod(0o600)
    assert sync_one(tmp_path / "spool", broker).state == "sent"
    check(read_log(broker.address, trainer.run_id), 1_000, ["FINISHED"], ["finished"])


def check_kills_of_the_follower(broker: BrokerProcess, tmp_path: Path, count: int, seed: int) -> None:
    dice = random.Random(seed)
    trainer = Trainer(tmp_path / "spool")
    for _ in range(count):
        follower = sync_in_a_process(tmp_path / "spool", broker, "always")
        assert follower.stdout is not None
        trainer.log(dice.randint(1, 30_000))
        for _ in range(dice.randint(0, 2)):
            assert follower.stdout.readline().startswith("followed")
            trainer.log(dice.randint(1, 3_000))
        with contextlib.suppress(subprocess.TimeoutExpired):
            follower.wait(dice.uniform(0, 0.3))  # at a random moment
        follower.kill()
        finished(follower)
    trainer.end()
    assert sync_one(tmp_path / "spool", broker).state == "sent"
    check(read_log(broker.address, trainer.run_id), trainer.points, ["FINISHED"], ["finished"])


@pytest.mark.slow
def test_kills_of_the_follower_cost_nothing(broker: BrokerProcess, tmp_path: Path) -> None:
    check_kills_of_the_follower(broker, tmp_path, count=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills_of_the_follower_cost_nothing(broker: BrokerProcess, tmp_path: Path) -> None:
    check_kills_of_the_follower(broker, tmp_path, count=60, seed=2)


@pytest.mark.slow
def test_two_logs_get_all_of_it_each(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(1_000)
    trainer.wait()
    wait_until(lambda: sync_one(tmp_path / "spool", broker).sent > 0, PATIENCE_S)
    trainer.end()
    with broker_with_topics(tmp_path / "other") as other:
        assert sync_one(tmp_path / "spool", other).state == "sent"
        check(read_log(other.address, trainer.run_id), 1_000, ["FINISHED"], ["finished"])


def test_a_watch_ends_with_the_training_and_has_sent_everything(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(1_000)
    trainer.wait()
    command = [sys.executable, "-m", "runtide_deploy.cli", "sync", "--watch", "1", "--broker", broker.address]
    watch = subprocess.Popen(
        [*command, str(tmp_path / "spool")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    said = ""
    while "followed" not in said:
        line = watch.stdout.readline()
        assert line, (said, finished(watch))
        said += line
    trainer.end()
    code, out, errors = finished(watch)
    assert code == 0, errors
    assert "sent" in out.splitlines()[-1]
    assert list(find_spools([tmp_path / "spool"])) == []
    check(read_log(broker.address, trainer.run_id), 1_000, ["FINISHED"], ["finished"])
