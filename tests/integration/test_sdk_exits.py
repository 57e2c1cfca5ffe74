"""Every way out of a process: the run's status, nothing lost, no hang, and it says what is left."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide.spool.segment import SegmentReader
from runtide.sync import sync
from runtide_schemas.events.runs import RunEnded, WriterClosed
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import (
    TELLS_ITS_PATIENCE,
    assert_complete,
    bodies,
    broker_with_topics,
    child,
    deduplicated,
    finished,
    patience_of,
    points_of,
    read_log,
)

pytestmark = pytest.mark.gate

AWAY = "127.0.0.1:9"
START = """
import os, signal, sys, threading, time
import runtide
run = runtide.start_run()
for step in range(1000):
    runtide.log_metric("loss", 0.5, step=step)
print(run.run_id, flush=True)
"""

WAYS_OUT = {
    "falling off the end": ("", 0, "FINISHED", ""),
    "sys.exit": ("sys.exit(0)", 0, "FINISHED", ""),
    "end_run": ("runtide.end_run()", 0, "FINISHED", ""),
    "end_run failed": ('runtide.end_run("FAILED", "no luck")', 0, "FAILED", "no luck"),
    "exception": ("raise ValueError('no luck')", 1, "FAILED", "ValueError: no luck"),
    "exception in with": ("with run:\n    raise ValueError('no luck')", 1, "FAILED", "ValueError: no luck"),
    "sys.exit in with": ("with run:\n    sys.exit(3)", 3, "FAILED", "SystemExit: 3"),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(300)", -2, "KILLED", "KeyboardInterrupt"),
    "Ctrl-C in with": (
        "with run:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(300)",
        -2,
        "KILLED",
        "KeyboardInterrupt",
    ),
    "exception where IPython is imported": (
        "import IPython\nraise ValueError('no luck')",
        1,
        "FAILED",
        "ValueError: no luck",
    ),
    "sys.exit in a thread": (
        "thread = threading.Thread(target=sys.exit); thread.start(); thread.join()",
        0,
        "FINISHED",
        "",
    ),
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("exits") / "broker") as process:
        yield process


@pytest.mark.parametrize("way", WAYS_OUT)
def test_the_way_out_gives_the_status(broker: BrokerProcess, tmp_path: Path, way: str) -> None:
    code, exit_code, status, reason = WAYS_OUT[way]
    returned, out, errors = finished(child(START + code, broker=broker.address, spool=tmp_path / "spool"))
    assert returned == exit_code, errors
    events = read_log(broker.address, out.strip())
    assert_complete(events)
    assert len(points_of(events, "loss")) == 1000
    (ended,) = bodies(events, RunEnded)
    assert (ended.status, ended.reason) == (status, reason)
    assert "runtide:" not in errors, "all was delivered, so there is nothing to say"
    assert list((tmp_path / "spool").glob("*/*/writer.json")) == []


@pytest.mark.parametrize(("code", "status"), [("", "FINISHED"), ("raise ValueError('no luck')", "FAILED")])
def test_an_exit_without_broker_keeps_its_deadline_and_says_what_is_left(
    broker: BrokerProcess, tmp_path: Path, code: str, status: str
) -> None:
    limit = {"RUNTIDE_EXIT_DEADLINE": "3"}
    process = child(TELLS_ITS_PATIENCE + START + code, broker=AWAY, spool=tmp_path / "spool", variables=limit)
    _, out, errors = finished(process)
    run_id, _ = out.splitlines()
    assert 0 <= patience_of(out) <= 3
    (directory,) = (path.parent for path in (tmp_path / "spool").glob("*/*/writer.json"))
    assert "not delivered" in errors
    assert f"runtide sync {directory}" in errors
    assert sync([directory], KafkaSettings(bootstrap=broker.address)).complete
    events = read_log(broker.address, run_id)
    assert_complete(events)
    assert [body.status for body in bodies(events, RunEnded)] == [status]
    assert [body.reason for body in bodies(events, WriterClosed)] == [status.lower()]


def test_ctrl_c_ends_the_waiting_at_an_exit_and_what_is_left_is_said(broker: BrokerProcess, tmp_path: Path) -> None:
    code = START + "os.kill(os.getpid(), signal.SIGINT)"
    process = child(code, broker=AWAY, spool=tmp_path / "spool", variables={"RUNTIDE_EXIT_DEADLINE": "600"})
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    (segment,) = (tmp_path / "spool").glob("*/*/runs-*.avro")
    wait_until(lambda: "WriterClosed" in {event.type for event in SegmentReader(segment)})
    process.send_signal(signal.SIGINT)
    returned, _, errors = finished(process)  # sooner than in 600 s
    assert returned == -signal.SIGINT, "as after the first"
    (directory,) = (path.parent for path in (tmp_path / "spool").glob("*/*/writer.json"))
    assert f"runtide sync {directory}" in errors
    assert errors.count("Traceback") == 1, errors
    assert sync([directory], KafkaSettings(bootstrap=broker.address)).complete
    events = read_log(broker.address, run_id)
    assert_complete(events)
    assert [(body.status, body.reason) for body in bodies(events, RunEnded)] == [("KILLED", "KeyboardInterrupt")]


def test_a_thread_that_logs_on_while_the_process_ends_starts_no_run(broker: BrokerProcess, tmp_path: Path) -> None:
    code = """
def log_on():
    for step in range(10**9):
        runtide.log_metric("daemon", 0.5, step=step)
        time.sleep(0.001)

threading.Thread(target=log_on, daemon=True).start()
"""
    variables = {"RUNTIDE_EXIT_DEADLINE": "1"}
    process = child(START + code, broker=AWAY, spool=tmp_path / "spool", variables=variables)
    returned, out, errors = finished(process)
    assert returned == 0, errors
    assert "InvalidRequest" in errors, "that the run has ended, or that the process is ending"
    (directory,) = (path.parent for path in (tmp_path / "spool").glob("*/*/writer.json"))
    assert f"runtide sync {directory}" in errors
    assert sync([directory], KafkaSettings(bootstrap=broker.address)).complete
    events = read_log(broker.address, out.strip())
    assert_complete(events)
    assert points_of(events, "loss") == [(step, 0.5) for step in range(1000)]


def test_sigterm_by_default_loses_nothing_and_sync_closes_the_writer(broker: BrokerProcess, tmp_path: Path) -> None:
    process = child(START + "time.sleep(300)", broker="", spool=tmp_path / "spool")
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    process.terminate()
    returned, _, _ = finished(process)
    assert returned == -signal.SIGTERM, "the default disposition was left alone"
    assert sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).complete
    events = read_log(broker.address, run_id)
    assert_complete(events)
    assert len(points_of(events, "loss")) == 1000
    assert [body.reason for body in bodies(events, WriterClosed)] == ["recovered"]


def test_sigterm_ends_the_run_when_asked_to(broker: BrokerProcess, tmp_path: Path) -> None:
    process = child(
        START + "time.sleep(300)",
        broker=broker.address,
        spool=tmp_path / "spool",
        variables={"RUNTIDE_HANDLE_SIGTERM": "1"},
    )
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    process.terminate()
    returned, _, errors = finished(process)
    assert returned == 128 + signal.SIGTERM, errors
    events = read_log(broker.address, run_id)
    assert_complete(events)
    assert [(body.status, body.reason) for body in bodies(events, RunEnded)] == [("KILLED", "SIGTERM")]


FORKS = {
    "os._exit": "os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "exception": "raise ValueError('in the child')",
}


@pytest.mark.parametrize("end", FORKS)
def test_a_forked_child_is_its_own_writer(broker: BrokerProcess, tmp_path: Path, end: str) -> None:
    code = f"""
pid = os.fork()
if pid == 0:
    for step in range(500):
        runtide.log_metric("child", 1.0, step=step)
    run.log_param("from", "child")
    {FORKS[end]}
os.waitpid(pid, 0)
for step in range(500):
    runtide.log_metric("parent", 2.0, step=step)
"""
    returned, out, errors = finished(child(START + code, broker=broker.address, spool=tmp_path / "spool"))
    assert returned == 0, errors
    sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address))  # what a child left that ended by os._exit
    events = deduplicated(read_log(broker.address, out.splitlines()[0]))
    assert_complete(events)
    assert len({event.envelope.writer for event in events}) == 2
    counts = {key: len(points_of(events, key)) for key in ("loss", "child", "parent")}
    assert counts == {"loss": 1000, "child": 500, "parent": 500}
    (ended,) = bodies(events, RunEnded)
    assert ended.status == "FINISHED", "only the process that started the run ends it"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_deliver_before_they_end(broker: BrokerProcess, tmp_path: Path, method: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"""
import multiprocessing
import runtide

def work(arguments):
    run_id, number = arguments
    member = runtide.attach(run_id)
    for step in range(100):
        member.log_metric(f"worker {{number}}", float(step), step=step)

if __name__ == "__main__":
    with runtide.start_run() as run:
        run.log_metric("main", 1.0)
        context = multiprocessing.get_context("{method}")
        workers = [context.Process(target=work, args=((run.run_id, number),)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
    print(run.run_id)
""")
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    if method != "fork":
        code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(script)!r}]))"
    returned, out, errors = finished(child(code, broker=broker.address, spool=tmp_path / "spool"))
    assert returned == 0, errors
    events = read_log(broker.address, out.strip())
    assert_complete(events)
    for number in range(4):
        assert points_of(events, f"worker {number}") == [(step, float(step)) for step in range(100)]
    assert list((tmp_path / "spool").glob("*/*/writer.json")) == []
