"""A writer's spool: numbers, acknowledgements, take-over of dead writers, full disks."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide.publisher.publisher import Publisher
from runtide.spool.limits import SpoolLimits
from runtide.spool.liveness import SpoolBusy
from runtide.spool.recovery import recover
from runtide.spool.segment import segment_files
from runtide.spool.topic_log import SEGMENT_BYTES
from runtide.spool.writer_spool import WriterSpool
from runtide.sync import find_spools, sync
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.errors import FatalError, InvalidRequest
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ParamsLogged, RunEnded, WriterClosed

RUN = "ab" * 16
LIMITS = SpoolLimits()


def params(number: int, size: int = 1) -> ParamsLogged:
    return ParamsLogged(run_id=RUN, params={f"p{number}": "x" * size})


def events_in(spool: WriterSpool, topic: str) -> list[object]:
    bodies = []
    seq = spool.first_kept(topic)
    while events := spool.read(topic, seq, 1_000_000):
        assert [event.seq for event in events] == list(range(seq, seq + len(events)))
        bodies += [decode(event.value()) for event in events]
        seq += len(events)
    return bodies


def test_only_the_user_may_look_into_a_spool(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path / "spool", RUN, LIMITS)
    spool.append(params(0))
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in spool.directory.iterdir()} == {0o600}


def test_events_are_read_from_memory_and_from_disk_alike(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    bodies = [params(number, size=300_000) for number in range(40)]  # more than one segment
    for body in bodies:
        spool.append(body)
    assert spool.size > SEGMENT_BYTES
    assert len([1 for topic, _, _ in segment_files(spool.directory) if topic == topics.RUNS]) == 2
    assert events_in(spool, topics.RUNS) == bodies
    spool.forget(topics.RUNS, 40)
    assert events_in(spool, topics.RUNS) == bodies
    assert [event.seq for event in spool.read(topics.RUNS, 17, 1)] == [17]


def test_segments_go_once_they_are_acknowledged_and_the_position_is_written(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    for number in range(40):
        spool.append(params(number, size=300_000))
    spool.acknowledge(topics.RUNS, 39)
    assert spool.first_kept(topics.RUNS) == 0, "not before the position is on disk"
    spool.save_acknowledged()
    assert 0 < spool.first_kept(topics.RUNS) <= 39
    spool.close(remove=False)
    again = WriterSpool.take_over(spool.directory, LIMITS)
    assert again.acked(topics.RUNS) == 39
    assert again.unacknowledged == 1
    assert [event.seq for event in again.read(topics.RUNS, 39, 1)] == [39]


def test_an_event_that_no_broker_takes_gets_no_number(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    with pytest.raises(InvalidRequest, match="the limit is 1000000"):
        spool.append(params(0, size=1_000_001))
    assert spool.counts == {}


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    with pytest.raises(SpoolBusy, match=f"process {os.getpid()}"):
        WriterSpool.take_over(spool.directory, LIMITS)


def test_recovery_completes_a_dead_writer_and_changes_nothing_the_second_time(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas.events.runs import ParamsLogged
spool = WriterSpool.create(Path(sys.argv[1]), "{RUN}", SpoolLimits(), creator=True)
spool.append(ParamsLogged(run_id="{RUN}", params={{"a": "1"}}))
loss = spool.keys.add("loss")
for step in range(5_000):
    spool.points.append(loss, step, 1, 0.5)
spool.seal()
for step in range(5_000, 7_000):
    spool.points.append(loss, step, 1, 0.5)
print(spool.directory, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    directory = Path(done.stdout.strip())
    spool = recover(directory, LIMITS)
    points = [body for body in events_in(spool, topics.METRICS) if isinstance(body, MetricsLogged)]
    assert [step for body in points for step in body.step.tolist()] == list(range(7_000))
    first, ended, closed = events_in(spool, topics.RUNS)
    assert isinstance(first, ParamsLogged)
    assert isinstance(ended, RunEnded)
    assert ended.status == "KILLED"
    assert isinstance(closed, WriterClosed)
    assert closed.reason == "recovered"
    assert closed.counts == {topics.RUNS: 3, topics.METRICS: 2}
    identities = [event.id for event in spool.read(topics.METRICS, 0, 10_000_000)]
    spool.close(remove=False)
    again = recover(directory, LIMITS)
    assert again.counts == closed.counts
    assert [event.id for event in again.read(topics.METRICS, 0, 10_000_000)] == identities
    assert list(directory.glob("*.tail")) == []


def test_thousands_of_long_names_are_split_into_events_that_a_broker_takes(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    names = [f"{number:04d}" + "ü" * 240 for number in range(3_000)]
    for step, name in enumerate(names):
        spool.points.append(spool.keys.add(name), step, 1, 0.5)
    spool.seal()
    events = spool.read(topics.METRICS, 0, 10**9)
    assert len(events) == 2
    assert all(len(event.value()) < 1_000_100 for event in events)
    assert [event.tail_end for event in events] == [1_500, 3_000]
    bodies = [decode(event.value()) for event in events]
    assert [name for body in bodies for name in body.keys] == names


def test_what_is_no_spool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="no manifest"):
        WriterSpool.take_over(tmp_path, LIMITS)


def test_the_bound_drops_events_and_counts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits(most_bytes=2_000_000))
    for number in range(20):
        spool.append(params(number, size=100_000))
    kept = len(events_in(spool, topics.RUNS))
    assert 10 <= kept < 20
    assert spool.dropped == (0, 20 - kept)
    assert "has reached its bound" in caplog.text


FULL_DISK = f"""
import resource, signal, sys
from pathlib import Path
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.events.runs import ParamsLogged
spool = WriterSpool.create(Path(sys.argv[1]), "{RUN}", SpoolLimits())
def log(number):
    spool.append(ParamsLogged(run_id="{RUN}", params={{str(number): "x" * 10_000}}))
log(0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (45_000, hard))
for number in range(1, 10):
    log(number)
full = spool.written(topics.RUNS)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
spool.maintain()
print(full, spool.written(topics.RUNS), [e.seq for e in spool.read(topics.RUNS, 0, 10**9)] == list(range(10)))
spool.forget(topics.RUNS, 10)
print([e.seq for e in spool.read(topics.RUNS, 0, 10**9)] == list(range(10)))
"""


def test_events_wait_in_memory_while_the_disk_is_full(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    written, after, *orders = done.stdout.split()
    assert 0 < int(written) < 10, "some did not fit"
    assert int(after) == 10
    assert orders == ["True", "True"]
    assert done.stderr.count("cannot write to the spool") == 1, "said once, not per event"


@pytest.mark.parametrize("damage", ["", "{", '{"runtide.runs": null}', '{"runtide.runs": 3}'])
def test_a_lost_note_of_what_is_acknowledged_does_not_make_a_spool_unreadable(tmp_path: Path, damage: str) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    for number in range(40):
        spool.append(params(number, size=300_000))
    spool.acknowledge(topics.RUNS, 39)
    spool.save_acknowledged()
    first = spool.first_kept(topics.RUNS)
    assert first > 3
    spool.close(remove=False)
    (spool.directory / "acked").write_text(damage)
    again = WriterSpool.take_over(spool.directory, LIMITS)
    assert again.acked(topics.RUNS) == first
    assert again.read(topics.RUNS, again.acked(topics.RUNS), 1)[0].seq == first
    again.close(remove=False)


def test_the_note_is_on_the_disk_before_what_it_covers_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    for number in range(40):
        spool.append(params(number, size=300_000))
    spool.acknowledge(topics.RUNS, 39)
    kept_at_sync: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: kept_at_sync.append(spool.first_kept(topics.RUNS)))
    spool.save_acknowledged()
    assert kept_at_sync == [0]
    assert spool.first_kept(topics.RUNS) > 0


def test_a_full_disk_only_delays_the_note_of_what_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    for number in range(40):
        spool.append(params(number, size=300_000))
    spool.acknowledge(topics.RUNS, 39)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        spool.save_acknowledged()
        assert spool.first_kept(topics.RUNS) == 0
    spool._acked._save_again_at = 0.0  # the pause is over
    spool.save_acknowledged()
    assert spool.first_kept(topics.RUNS) > 0
    spool.acknowledge(topics.RUNS, 40)
    monkeypatch.setattr(os, "pwrite", full)
    spool.close(remove=False)
    monkeypatch.undo()
    again = WriterSpool.take_over(spool.directory, LIMITS)
    assert again.acked(topics.RUNS) == 39, "the lock was given back, and the last event is sent twice at worst"
    again.close(remove=False)


def test_a_segment_stays_until_the_next_one_holds_an_acknowledged_event(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    for number in range(SEGMENT_BYTES // 900_000 + 1):
        spool.append(params(number, size=900_000))
    full = spool.written(topics.RUNS)
    spool.append(params(full))  # opens the next segment
    assert len([1 for topic, _, _ in segment_files(spool.directory) if topic == topics.RUNS]) == 2
    spool.acknowledge(topics.RUNS, full)
    spool.save_acknowledged()
    assert spool.first_kept(topics.RUNS) == 0, "power loss could take the next one, and with it where numbers go on"
    spool.acknowledge(topics.RUNS, full + 1)
    spool.save_acknowledged()
    assert spool.first_kept(topics.RUNS) == full


def test_nothing_is_sent_that_is_not_synced(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    spool.append(params(0))
    assert spool.sendable(topics.RUNS) == 0
    spool.settle()
    assert spool.sendable(topics.RUNS) == 1
    spool.append(params(1))
    assert [event.seq for event in spool.read(topics.RUNS, 0, 10**6, spool.sendable(topics.RUNS))] == [0]
    spool.forget(topics.RUNS, 2)
    assert [event.seq for event in spool.read(topics.RUNS, 0, 10**6, spool.sendable(topics.RUNS))] == [0]


def test_calls_go_on_while_the_disk_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    loss = spool.keys.add("loss")
    syncing, done = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        syncing.set()
        assert done.wait(60)

    monkeypatch.setattr(os, "fsync", slow)
    flushing = threading.Thread(target=spool.sync)
    flushing.start()
    assert syncing.wait(60)
    spool.points.append(loss, 1, 1, 0.5)
    spool.append(params(0))
    assert spool.seal()
    assert flushing.is_alive()
    done.set()
    flushing.join(60)
    assert not flushing.is_alive()


def test_a_durable_flush_says_when_the_disk_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        spool.append(params(0))
        with pytest.raises(OSError, match="No space left"):
            spool.sync()
    spool.sync()
    assert spool.written(topics.RUNS) == 1, "that was no failed fsync: the disk is trusted"
    spool.close(remove=False)
    with pytest.raises(OSError, match="is closed"):
        spool.sync()


def test_a_spool_that_was_delivered_is_none_any_more_before_its_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    spool.append(params(0))
    spool.acknowledge(topics.RUNS, 1)
    spool.points.close()
    spool.retire()
    assert list(find_spools([tmp_path])) == []
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the process dies here
    spool.close(remove=True)
    monkeypatch.undo()
    assert spool.directory.exists()
    assert sync([tmp_path], KafkaSettings(bootstrap="127.0.0.1:1")).spools == ()
    assert not spool.directory.exists()


def test_a_closing_that_outlived_what_it_counts_is_taken_back(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    loss = spool.keys.add("loss")
    for step in range(4):
        spool.points.append(loss, step, 1, 0.5)
        spool.seal()
    counts = {topics.RUNS: 2, topics.METRICS: 4}
    spool.append(params(0))
    spool.append(WriterClosed(run_id=RUN, writer_id=spool.manifest.writer_id, counts=counts, reason="ended", at=1))
    spool.close(remove=False)
    (lost,) = (path for topic, _, path in segment_files(spool.directory) if topic == topics.METRICS)
    lost.unlink()  # power was lost before it was synced
    again = recover(spool.directory, LIMITS)
    _, closed = events_in(again, topics.RUNS)
    assert isinstance(closed, WriterClosed)
    assert (closed.reason, closed.counts) == ("recovered", {topics.RUNS: 2, topics.METRICS: 1})
    assert again.counts == closed.counts
    again.close(remove=False)


def test_a_spool_whose_directory_was_deleted_is_sent_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    spool.append(params(0))
    shutil.rmtree(tmp_path / RUN)
    spool.settle()
    assert "could not be synced" in caplog.text
    assert spool.sendable(topics.RUNS) == 1
    with pytest.raises(OSError, match="has failed before"):
        spool.sync()


def test_a_spool_is_given_back_only_when_the_publisher_has_retired_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = WriterSpool.create(tmp_path, RUN, LIMITS)
    publisher = Publisher(None, linger=0.001)
    entered, done = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        assert done.wait(60)

    monkeypatch.setattr(spool, "retire", slow)
    publisher.add(spool)
    while spool not in publisher._shipments:
        time.sleep(0.001)
    assert not publisher.remove(spool, timeout=0.2), "it is still at work on it"
    assert entered.wait(60)
    done.set()
    assert publisher.remove(spool, timeout=60)
    publisher.stop()
