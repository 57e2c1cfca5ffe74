"""``runtide sync`` of copies, of a run that goes on or has ended, on its machine or another: nothing lost, nothing twice.

Copies are made file by file while the trainer logs, as rsync does.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtide.spool.inspection import summarize
from runtide.sync import SpoolReport, find_spools
from runtide_deploy.cli.main import app
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.events.runs import RunEnded, WriterClosed
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import bodies, broker_with_topics, deduplicated, read_log
from tests.integration.steered_trainer import PATIENCE_S, Trainer, check, contents, copied, sync_one


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("following") / "broker") as process:
        yield process


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
            trainer.log(10_000)
            durable = trainer.durable(beyond=sent)
            trainer.log(10_000)
            directory = copied(trainer, tmp_path / "copy")  # while it logs
            before = contents(directory)
            report = sync_one(tmp_path / "copy", broker)
            assert (report.state, report.events - report.sent) == ("followed", 0)
            assert "run `runtide sync` on node7" in report.problem
            assert f"runtide sync --ended {directory}" in report.problem
            assert contents(directory) == before
            sent += report.sent
            assert sent >= durable, "each copy was followed, not only looked at"
            trainer.wait()
        assert bodies(read_log(broker.address, trainer.run_id), WriterClosed) == []
        here: list[SpoolReport] = []

        def some_arrived() -> bool:
            here.append(sync_one(tmp_path / "spool", broker))
            return here[-1].sent > 0

        wait_until(some_arrived, PATIENCE_S)
        assert here[-1].state == "followed", "its own delivery fails, so it may be helped"
        trainer.log(20_000)
        gate.open()
        trainer.end()
    check(read_log(broker.address, trainer.run_id), trainer.points, ["FINISHED"], ["finished"])
    assert list(find_spools([tmp_path / "spool"])) == [], "it has delivered itself"
    report = sync_one(tmp_path / "copy", broker)
    assert report.state == "followed", "the last copy is of the time before its end"
    check(read_log(broker.address, trainer.run_id), trainer.points, ["FINISHED"], ["finished"])


def test_a_killed_run_of_another_machine_is_ended_only_on_ones_word(broker: BrokerProcess, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "spool")
    trainer.log(4_000)
    trainer.wait()

    def some_arrived() -> bool:
        copied(trainer, tmp_path / "copy")
        return sync_one(tmp_path / "copy", broker).sent > 0

    wait_until(some_arrived, PATIENCE_S)
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


def run(*arguments: str | Path) -> str:
    """Run ``runtide sync``; return what it prints."""
    result = CliRunner().invoke(app, ["sync", *map(str, arguments)], env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


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
