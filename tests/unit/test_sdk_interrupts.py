"""Ctrl-C between any two steps of a call: as in notebooks, where the process goes on after it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import runtide
from runtide.spool.limits import SpoolLimits
from runtide.spool.segment import events_of, segment_files
from runtide.spool.writer_spool import WriterSpool
from runtide.sync import find_spools
from runtide.tracking.writer import Writer
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.runs import ParamsLogged, RunEnded, WriterClosed

RUN = "ab" * 16


class InterruptedOnce(list[int]):
    """Descriptors of segments; Ctrl-C comes when the first is to be kept."""

    interrupted = False

    def append(self, descriptor: int) -> None:
        if not self.interrupted:
            self.interrupted = True
            os.close(descriptor)
            raise KeyboardInterrupt
        super().append(descriptor)


def test_an_interrupt_while_a_segment_is_made_leaves_one_segment(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits())
    spool._logs[topics.RUNS]._descriptors = InterruptedOnce()
    bodies = [ParamsLogged(run_id=RUN, params={f"p{number}": "x"}) for number in range(2)]
    with pytest.raises(KeyboardInterrupt):
        spool.append(bodies[0])
    spool.append(bodies[1])
    spool.acknowledge(topics.RUNS, 1)
    spool.save_acknowledged()
    assert [first for topic, first, _ in segment_files(spool.directory) if topic == topics.RUNS] == [0]
    assert [decode(event.value()) for event in spool.read(topics.RUNS, 0, 1_000_000)] == bodies


class Slow:
    """Accompanies a run; while one waits for it, Ctrl-C comes."""

    def __init__(self) -> None:
        self.given = -1.0

    def stop(self, timeout: float) -> None:
        self.given = timeout
        signal.raise_signal(signal.SIGINT)

    def abandon(self) -> None: ...


def lifecycle(directory: Path) -> list[tuple[str, str]]:
    """Return the ends that the spools in a directory tell of, in their order: of runs with status, of writers with reason."""
    found = []
    for spool in find_spools([directory]):
        for topic, _, path in segment_files(spool):
            for event in events_of(path) if topic == topics.RUNS else []:
                match decode(event.value()):
                    case RunEnded(status=status):
                        found.append(("run", status))
                    case WriterClosed(reason=reason):
                        found.append(("writer", reason))
    return found


@pytest.fixture
def run(tmp_path: Path) -> runtide.Run:
    runtide.init(broker="", spool=tmp_path / "spool")
    return runtide.start_run()


def test_an_interrupt_while_what_accompanies_a_run_stops_only_ends_the_waiting(
    run: runtide.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    companions = [Slow(), Slow()]
    run._companions += companions
    with pytest.raises(KeyboardInterrupt):
        run.end("FAILED", "no luck")
    assert lifecycle(tmp_path / "spool") == [("run", "FAILED"), ("writer", "failed")]
    assert (companions[0].given, companions[1].given > 1) == (0.0, True), (
        "the last began first; then nobody was waited for"
    )
    assert "runtide sync" in capsys.readouterr().err
    run.end()
    assert len(lifecycle(tmp_path / "spool")) == 2


def test_an_interrupt_while_a_run_is_concluded_leaves_it_ended(run: runtide.Run, tmp_path: Path) -> None:
    run._companions.append(Slow())
    with pytest.raises(KeyboardInterrupt):
        run.conclude("FINISHED", 1)
    assert lifecycle(tmp_path / "spool") == [("run", "FINISHED"), ("writer", "finished")]
    run.end("KILLED")
    assert len(lifecycle(tmp_path / "spool")) == 2


def test_an_end_that_an_interrupt_kept_from_the_spool_is_said_before_the_writers(
    run: runtide.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Writer, "publish", interrupted)
        run.conclude("FAILED", 1)
    assert lifecycle(tmp_path / "spool") == []
    run.end("KILLED")
    assert lifecycle(tmp_path / "spool") == [("run", "FAILED"), ("writer", "killed")]


def test_a_writers_end_that_an_interrupt_kept_from_the_spool_is_said_later(
    run: runtide.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Writer, "_publish_closing", interrupted)
        run.conclude("FINISHED", 1)
    run.end()
    assert lifecycle(tmp_path / "spool") == [("run", "FINISHED"), ("writer", "finished")]


def test_what_accompanies_a_run_may_log_while_it_is_concluded(run: runtide.Run, tmp_path: Path) -> None:
    class Last(Slow):
        def stop(self, timeout: float) -> None:
            run.set_tag("last", timeout > 1)

    run._companions.append(Last())
    run.conclude("FINISHED", 1)
    assert lifecycle(tmp_path / "spool") == [("run", "FINISHED"), ("writer", "finished")]
    run.end()


SCRIPT = """
import signal, sys
import runtide

class Slow:
    def stop(self, timeout):
        signal.raise_signal(signal.SIGINT)
    def abandon(self): ...

for nested in (False, True):
    run = runtide.start_run(nested=nested)
    run._companions += [Slow(), Slow()]
exec(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [("", 0, "FINISHED"), ("raise ValueError", 1, "FAILED"), ("raise KeyboardInterrupt", -signal.SIGINT, "KILLED")],
)
def test_an_interrupt_at_an_exit_leaves_every_run_ended_as_it_was_and_said(
    tmp_path: Path, ending: str, code: int, status: str
) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
    environment = {
        **clean,
        "RUNTIDE_BROKER": "",
        "RUNTIDE_DATA": str(tmp_path),
        "RUNTIDE_SPOOL": str(tmp_path / "spool"),
    }
    command = [sys.executable, "-c", SCRIPT, ending]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr
    assert lifecycle(tmp_path / "spool") == 2 * [("run", status), ("writer", status.lower())]
    assert sorted(re.findall(r"runtide sync (\S+)", done.stderr)) == sorted(map(str, find_spools([tmp_path / "spool"])))
