"""``runtide sync`` while training goes on, on its machine or another: nothing lost, nothing twice, no run ended.

Trainers are real processes that are told what to log; copies are made file by file while they log, as rsync does.
"""

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtide.kafka import KafkaSettings
from runtide.spool.inspection import summarize
from runtide.sync import SpoolReport, find_spools, sync
from runtide_deploy.cli.main import app
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.events.runs import RunEnded, WriterClosed
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import (
    Logged,
    assert_complete,
    bodies,
    broker_with_topics,
    child,
    deduplicated,
    finished,
    points_of,
    read_log,
)

TRAINER = """
import sys
import runtide
from runtide.spool import durability, owner_state
durability.SETTLE_EVERY_S = owner_state._EVERY_S = 0.05
run = runtide.start_run("victim")
print(run.run_id, flush=True)
step = 0
for line in sys.stdin:
    for step in range(step + 1, step + 1 + int(line)):
        run.log_metric("loss", step * 0.5, step=step)
    run.log_param(f"p{step}", step)
    print(step, flush=True)
"""

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


class Trainer:
    """A process that logs as it is told: points with numbers from 1 on, and a param after each lot."""

    def __init__(self, spool: Path, broker: str = "", within: Sequence[str] = ()) -> None:
        """Start one; ``broker`` "" is offline, ``within`` a command that runs it."""
        limit = {"RUNTIDE_EXIT_DEADLINE": "30"}
        self._process = child(TRAINER, broker=broker, spool=spool, variables=limit, steered=True, within=within)
        self._lots = 0
        self.points = 0
        self.run_id = self._said()
        self.directory = spool / self.run_id

    def log(self, points: int) -> None:
        """Have it log a lot; return at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{points}\n")
        self._process.stdin.flush()
        self._lots += 1
        self.points += points

    def wait(self) -> None:
        """Return when all calls have returned."""
        while self._lots:
            self._said()
            self._lots -= 1

    def end(self) -> None:
        """Have it end its run and the process."""
        self.wait()
        code, _, errors = finished(self._process)
        assert code == 0, errors

    def kill(self) -> None:
        """End it by kill -9."""
        self.wait()
        self._process.kill()
        self._process.wait()  # before its input ends, which a process of a container would take for the end
        finished(self._process)

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, finished(self._process)
        return line


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("following") / "broker") as process:
        yield process


def sync_one(directory: Path, broker: BrokerProcess, *, ended: bool = False) -> SpoolReport:
    """Sync a directory that holds one spool."""
    (report,) = sync([directory], KafkaSettings(bootstrap=broker.address), ended=ended).spools
    return report


def copied(trainer: Trainer, copy: Path, *, elsewhere: bool = True) -> Path:
    """Copy a run's spool file by file as it is, over an earlier copy; it looks like one of another machine."""
    (source,) = find_spools([trainer.directory])
    target = copy / source.parent.name / source.name
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            shutil.copy2(path, target / path.name)
    manifest = json.loads((source / "writer.json").read_text())
    manifest |= {"host": "node7", "boot_id": "of node7"} if elsewhere else {}
    (target / "writer.json").write_text(json.dumps(manifest))
    return target


def check(log: list[Logged], points: int, ends: list[str], reasons: list[str]) -> None:
    """Hold what readers see against what was logged: all points, in order, once, and one end."""
    seen = deduplicated(log)
    assert_complete(seen)
    assert points_of(seen, "loss") == [(step, step * 0.5) for step in range(1, points + 1)]
    assert [body.status for body in bodies(seen, RunEnded)] == ends
    assert [body.reason for body in bodies(seen, WriterClosed)] == reasons


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a spool, but those of its followers."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "followed"}


def test_a_living_offline_run_arrives_while_it_goes_on_and_is_not_ended(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    for lot in range(1, 5):
        trainer.log(3_000)
        trainer.wait()
        reports: list[SpoolReport] = []

        def all_arrived(lot: int = lot, reports: list[SpoolReport] = reports) -> bool:
            reports.append(sync_one(tmp_path / "spool", broker))
            return len(points_of(read_log(broker.address, trainer.run_id), "loss")) == 3_000 * lot

        wait_until(all_arrived)
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


class ClosedGate:
    """An address that lets nobody in until it is opened; then it leads to the broker."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def open(self) -> None:
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((client, broker), (broker, client)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_copies_of_a_run_that_goes_on_are_sent_and_then_it_delivers_itself(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with contextlib.closing(ClosedGate(broker.port)) as gate:
        trainer = Trainer(tmp_path / "spool", gate.address)
        sent = 0
        for _ in range(8):
            trainer.log(20_000)
            directory = copied(trainer, tmp_path / "copy")  # while it logs
            before = contents(directory)
            report = sync_one(tmp_path / "copy", broker)
            assert (report.state, report.events - report.sent) == ("followed", 0)
            assert "run `runtide sync` on node7" in report.problem
            assert f"runtide sync --ended {directory}" in report.problem
            assert contents(directory) == before
            sent += report.sent
            trainer.wait()
        assert sent > 5, "the copies were followed, not only looked at"
        assert bodies(read_log(broker.address, trainer.run_id), WriterClosed) == []
        here: list[SpoolReport] = []
        wait_until(lambda: here.append(sync_one(tmp_path / "spool", broker)) or here[-1].sent > 0)  # type: ignore[func-returns-value]
        assert here[-1].state == "followed", "its own delivery fails, so it may be helped"
        trainer.log(20_000)
        gate.open()
        trainer.end()
    check(read_log(broker.address, trainer.run_id), trainer.points, ["FINISHED"], ["finished"])
    assert list(find_spools([tmp_path / "spool"])) == [], "it has delivered itself"
    report = sync_one(tmp_path / "copy", broker)
    assert report.state == "followed", "the last copy is of the time before its end"
    check(read_log(broker.address, trainer.run_id), trainer.points, ["FINISHED"], ["finished"])


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


def test_a_killed_run_of_another_machine_is_ended_only_on_ones_word(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(4_000)
    trainer.wait()

    def some_arrived() -> bool:
        copied(trainer, tmp_path / "copy")
        return sync_one(tmp_path / "copy", broker).sent > 0

    wait_until(some_arrived)
    trainer.log(1_000)
    trainer.wait()
    trainer.kill()
    directory = copied(trainer, tmp_path / "copy")
    report = sync_one(tmp_path / "copy", broker)
    assert (report.state, "may live" in report.problem) == ("followed", True)
    assert summarize(directory).state == "elsewhere"
    assert bodies(read_log(broker.address, trainer.run_id), WriterClosed) == []
    report = sync_one(tmp_path / "copy", broker, ended=True)
    assert (report.state, report.problem) == ("sent", "")
    assert not directory.exists()
    log = read_log(broker.address, trainer.run_id)
    check(log, 5_000, ["KILLED"], ["recovered"])
    assert len(log) == len(deduplicated(log)), "what was followed is not sent again"


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
    wait_until(lambda: sync_one(directory, broker).sent > 0)
    report = sync_one(directory, broker)
    assert (report.state, report.problem) == ("followed", "")
    assert "another process has it" in report.note
    trainer.kill()
    assert "may live" in sync_one(copy, broker).problem, "nothing is known of who runs where a copy was made"
    report = sync_one(directory, broker)
    assert (report.state, report.problem) == ("sent", "")
    check(read_log(broker.address, trainer.run_id), 1_000, ["KILLED"], ["recovered"])


def test_a_copy_of_a_run_that_ended_is_complete_without_a_word(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(5_000)
    trainer.wait()
    copied(trainer, tmp_path / "copy")
    assert sync_one(tmp_path / "copy", broker).state == "followed"
    trainer.end()
    directory = copied(trainer, tmp_path / "copy")
    report = sync_one(tmp_path / "copy", broker)
    assert (report.state, report.problem) == ("sent", "")
    assert not directory.exists()
    check(read_log(broker.address, trainer.run_id), 5_000, ["FINISHED"], ["finished"])
    assert sync_one(tmp_path / "spool", broker).state == "sent"
    check(read_log(broker.address, trainer.run_id), 5_000, ["FINISHED"], ["finished"])


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_copy_that_is_older_than_its_writers_end_ends_nothing(
    broker: BrokerProcess, tmp_path: Path, *, ends_well: bool
) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(1_000)
    trainer.wait()
    directory = copied(trainer, tmp_path / "backup", elsewhere=False)
    assert sync_one(tmp_path / "backup", broker).problem == "", "its writer is seen to live"
    trainer.log(1_000)
    trainer.wait()
    trainer.end() if ends_well else trainer.kill()
    report = sync_one(tmp_path / "backup", broker)
    assert (report.state, "after this copy was made" in report.problem) == ("followed", True)
    assert (directory.exists(), summarize(directory).state) == (True, "elsewhere")
    assert bodies(read_log(broker.address, trainer.run_id), RunEnded) == []
    assert sync_one(tmp_path / "spool", broker).state == "sent"
    ends = (["FINISHED"], ["finished"]) if ends_well else (["KILLED"], ["recovered"])
    check(read_log(broker.address, trainer.run_id), 2_000, *ends)


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
    wait_until(lambda: sync_one(tmp_path / "spool", broker).sent > 0)
    trainer.end()
    with broker_with_topics(tmp_path / "other") as other:
        assert sync_one(tmp_path / "spool", other).state == "sent"
        check(read_log(other.address, trainer.run_id), 1_000, ["FINISHED"], ["finished"])


def run(*arguments: str | Path) -> str:
    """Run ``runtide sync``; return what it prints."""
    result = CliRunner().invoke(app, ["sync", *map(str, arguments)], env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


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


def test_the_command_says_what_only_the_user_knows(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(100)
    trainer.wait()
    directory = copied(trainer, tmp_path / "copy")
    trainer.kill()
    with pytest.raises(TransientError, match="Not everything could be sent"):
        run("--broker", broker.address, tmp_path / "copy")
    with pytest.raises(InvalidRequest, match="--ended needs the directories"):
        run("--broker", broker.address, "--ended")
    assert directory.exists()
    out = run("--broker", broker.address, "--ended", tmp_path / "copy")
    assert "sent" in out
    assert not directory.exists()
