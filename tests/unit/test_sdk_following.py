"""Who lives, and what is sent of a spool whose owner does: whole events in a row that the owner calls durable."""

import dataclasses
import errno
import fcntl
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtide.spool import liveness, topic_log
from runtide.spool import manifest as manifests
from runtide.spool.acked import read_followed
from runtide.spool.following import FollowedSpool
from runtide.spool.inspection import summarize
from runtide.spool.limits import SpoolLimits
from runtide.spool.liveness import SpoolBusy, standing
from runtide.spool.manifest import LOCK_FILE, Manifest
from runtide.spool.note import Note, read_note
from runtide.spool.owner_state import read_state
from runtide.spool.segment import segment_files
from runtide.spool.segment_format import file_header
from runtide.spool.tail import FIRST_CAPACITY
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.errors import FatalError
from runtide_schemas.events.runs import ParamsLogged, WriterClosed

RUN = "ab" * 16
LIMITS = SpoolLimits()
LOG = "the.log:9092"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriterSpool:
    header = len(file_header(topics.RUNS, 0, bytes(16)))
    monkeypatch.setattr(topic_log, "SEGMENT_BYTES", header + 2_000)  # a handful of events
    return WriterSpool.create(tmp_path / "spool", RUN, LIMITS, creator=True)


def log_params(spool: WriterSpool, count: int) -> None:
    for number in range(count):
        spool.append(ParamsLogged(run_id=RUN, params={f"p{number}": "x" * 200}))


def settle(spool: WriterSpool) -> None:
    """Have the owner sync and say so."""
    spool._durability.settle(at_once=True)
    spool._durability.tell(at_once=True)


def followed(directory: Path, log: str = LOG) -> FollowedSpool:
    return FollowedSpool(directory, log)


def numbers_to_send(spool: FollowedSpool, topic: str = topics.RUNS) -> list[int]:
    numbers: list[int] = []
    seq = spool.acked(topic)
    while events := spool.read(topic, seq, 1_000, spool.sendable(topic)) if seq < spool.sendable(topic) else []:
        numbers += [event.seq for event in events]
        seq = numbers[-1] + 1
    return numbers


def send_all(directory: Path, log: str = LOG) -> list[int]:
    """Follow a spool as a publisher does; return the numbers of the lifecycle events that were sent."""
    spool = followed(directory, log)
    numbers = numbers_to_send(spool)
    for topic in (topics.RUNS, topics.METRICS):
        spool.acknowledge(topic, spool.sendable(topic))
    spool.retire()
    return numbers


def lock_of(directory: Path) -> os.stat_result:
    return (directory / LOCK_FILE).stat()


def copy_of(spool: WriterSpool, tmp_path: Path) -> Path:
    return Path(shutil.copytree(spool.directory, tmp_path / "copy" / RUN / spool.manifest.writer_id))


def elsewhere(directory: Path) -> Path:
    """Make a spool look like one of another machine."""
    manifest = json.loads((directory / "writer.json").read_text()) | {"host": "node7", "boot_id": "of node7"}
    (directory / "writer.json").write_text(json.dumps(manifest))
    return directory


def test_only_what_its_owner_calls_durable_is_sent(spool: WriterSpool) -> None:
    log_params(spool, 20)
    assert numbers_to_send(followed(spool.directory)) == []
    assert followed(spool.directory).waiting == 20
    settle(spool)
    log_params(spool, 3)
    assert numbers_to_send(followed(spool.directory)) == list(range(20))
    assert followed(spool.directory).waiting == 3


def test_an_owner_without_a_broker_settles_now_and_then_and_says_what_it_does(
    spool: WriterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtide.spool.durability.SETTLE_EVERY_S", math.inf)
    log_params(spool, 3)
    spool.maintain("none")
    assert read_state(spool.directory).durable[topics.RUNS] == 0
    monkeypatch.setattr("runtide.spool.durability.SETTLE_EVERY_S", 0.0)
    monkeypatch.setattr("runtide.spool.owner_state._EVERY_S", 0.0)
    spool._durability._state._again_at = 0.0
    spool.maintain("fails")
    state = read_state(spool.directory)
    assert (state.durable[topics.RUNS], state.delivery) == (3, "fails")


def test_what_was_sent_is_not_sent_again_to_the_same_log(spool: WriterSpool) -> None:
    log_params(spool, 20)
    settle(spool)
    assert send_all(spool.directory) == list(range(20))
    log_params(spool, 5)
    settle(spool)
    assert numbers_to_send(followed(spool.directory, "another.log:9092")) == list(range(25))
    assert send_all(spool.directory) == list(range(20, 25))
    assert read_followed(spool.directory)[topics.RUNS] == 25
    spool.close(remove=False)
    other = WriterSpool.take_over(spool.directory, LIMITS, log="another.log:9092")
    assert other.acked(topics.RUNS) == 0
    other.close(remove=False)
    again = WriterSpool.take_over(spool.directory, LIMITS, log=LOG)
    assert again.acked(topics.RUNS) == 25


def test_who_sends_nothing_leaves_no_trace(spool: WriterSpool) -> None:
    log_params(spool, 5)
    settle(spool)
    spool.acknowledge(topics.RUNS, 5)
    spool.save_acknowledged()
    before = {path.name for path in spool.directory.iterdir()}
    assert send_all(spool.directory) == []
    assert {path.name for path in spool.directory.iterdir()} == before


def test_a_damaged_note_of_what_was_sent_costs_sending_again(spool: WriterSpool) -> None:
    log_params(spool, 5)
    settle(spool)
    send_all(spool.directory)
    note = (spool.directory / "followed").read_text()
    (spool.directory / "followed").write_text(note.replace(": 5", ": 4", 1))
    assert read_followed(spool.directory) == {}, "half an old and half a new number is neither"
    assert send_all(spool.directory) == list(range(5))


def test_the_owner_may_delete_segments_while_it_is_followed(spool: WriterSpool) -> None:
    log_params(spool, 60)
    settle(spool)
    spool.forget(topics.RUNS, 60)
    behind = followed(spool.directory)
    assert [event.seq for event in behind.read(topics.RUNS, 0, 1)] == [0]
    spool.acknowledge(topics.RUNS, 50)
    spool.save_acknowledged()
    first = spool.first_kept(topics.RUNS)
    assert first > 20
    assert behind.unacknowledged == 60
    numbers = numbers_to_send(behind)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < first, "it ends where its owner deleted"
    assert behind.unacknowledged == len(numbers)
    assert numbers_to_send(followed(spool.directory)) == list(range(50, 60))


def test_a_copy_ends_at_its_first_tear_or_hole(spool: WriterSpool, tmp_path: Path) -> None:
    log_params(spool, 60)
    settle(spool)
    copy = copy_of(spool, tmp_path)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    *_, (_, last, newest) = segment_files(copy)
    newest.write_bytes(newest.read_bytes()[:-10])
    there = followed(copy)
    assert numbers_to_send(there) == list(range(there.sendable(topics.RUNS)))
    assert last <= there.sendable(topics.RUNS) < 60
    newest.write_bytes(b"Obj")
    assert numbers_to_send(followed(copy)) == list(range(last))
    _, (_, second, path), (_, third, _), *_ = segment_files(copy)
    path.unlink()
    there = followed(copy)
    assert (there.sendable(topics.RUNS), there.unacknowledged) == (second, second), "it knows before it reads"
    assert numbers_to_send(there) == list(range(second))
    Note(copy / "acked").write({topics.RUNS: third})
    assert numbers_to_send(followed(copy)) == list(range(third, last)), "what its owner had deleted is no hole"
    (copy / "acked").unlink()
    for name, content in before.items():
        (copy / name).write_bytes(content)
    assert numbers_to_send(followed(copy)) == list(range(60))


def test_a_spool_is_complete_when_all_that_its_end_counts_is_there(spool: WriterSpool, tmp_path: Path) -> None:
    loss = spool.keys.add("loss")
    for step in range(4):
        spool.points.append(loss, step, 1, 0.5)
        spool.seal()
    log_params(spool, 30)
    assert not followed(spool.directory).complete
    counts = {topics.RUNS: 31, topics.METRICS: 4}
    spool.append(WriterClosed(run_id=RUN, writer_id=spool.manifest.writer_id, counts=counts, reason="finished", at=1))
    assert not followed(spool.directory).complete, "its owner's power may still be cut"
    settle(spool)
    assert followed(spool.directory).complete
    spool.points.append(loss, 5, 1, 0.5)
    assert (followed(spool.directory).complete, followed(spool.directory).points) == (False, 1)
    copy = copy_of(spool, tmp_path)
    for path in copy.glob("*.tail"):
        path.unlink()
    assert followed(copy).complete
    (metrics,) = (path for topic, _, path in segment_files(copy) if topic == topics.METRICS)
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-1])
    assert not followed(copy).complete
    metrics.write_bytes(whole)
    send_all(copy)
    assert followed(copy).complete, "what was sent is there too"


@dataclasses.dataclass(frozen=True)
class Place:
    """A change to a manifest, and how its owner is then, by the state of the lock and whether the files are a copy."""

    change: dict[str, object]
    locked: str
    free: str
    copy: str


THIS_PROCESS: dict[str, object] = {}
PLACES = {
    "this process": Place(THIS_PROCESS, "lives", "gone", "lives"),
    "a process that ended": Place({"process_start": 1}, "held", "gone", "unknown"),
    "a snapshot of the volume": Place({"lock_device": 0}, "lives", "lives", "lives"),
    "a snapshot, and the process ended": Place({"lock_device": 0, "process_start": 1}, "held", "unknown", "unknown"),
    "another container of this machine": Place({"host": "pod", "pid_namespace": "pid:[1]"}, "held", "gone", "unknown"),
    "a container of the same name": Place({"pid_namespace": "pid:[1]"}, "held", "gone", "unknown"),
    "an earlier boot": Place({"boot_id": "before", "created": 1}, "held", "gone", "unknown"),
    "a machine of the same name": Place({"boot_id": "other", "created": 1 << 50}, "held", "unknown", "unknown"),
    "another machine": Place({"boot_id": "other", "host": "node7", "created": 1}, "held", "unknown", "unknown"),
    "an older version, another machine": Place(
        {"boot_id": "o", "host": "n", "lock_inode": 0}, "held", "unknown", "unknown"
    ),
    "an older version, an earlier boot": Place({"boot_id": "o", "lock_inode": 0}, "held", "gone", "gone"),
    "an older version, ended": Place({"lock_inode": 0, "process_start": 1}, "held", "gone", "gone"),
}


@pytest.mark.parametrize("place", PLACES)
def test_who_lives(spool: WriterSpool, tmp_path: Path, place: str) -> None:
    expected = PLACES[place]
    manifest = dataclasses.replace(spool.manifest, **expected.change)  # type: ignore[arg-type]  # as the table says
    own, copied = lock_of(spool.directory), lock_of(copy_of(spool, tmp_path))
    assert standing(manifest, own, free=False) == expected.locked
    assert standing(manifest, own, free=True) == expected.free
    assert standing(manifest, copied, free=True) == expected.copy


def test_a_process_that_is_hidden_from_us_may_live(
    spool: WriterSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_old = dataclasses.replace(spool.manifest, lock_inode=0)
    monkeypatch.setattr(liveness, "process_start", lambda _: 0)
    assert standing(of_old, lock_of(spool.directory), free=True) == "unknown"

    def nobody(*_: int) -> None:
        raise OSError(errno.ESRCH, "No such process")

    monkeypatch.setattr(os, "kill", nobody)
    assert standing(of_old, lock_of(spool.directory), free=True) == "gone"
    copied = lock_of(copy_of(spool, tmp_path))
    assert standing(spool.manifest, copied, free=True) == "unknown", "it may be older than the end of the process"


def test_without_boot_ids_the_name_and_the_lock_decide(
    spool: WriterSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "boot_id", lambda: "")
    manifest = dataclasses.replace(spool.manifest, boot_id="")
    own, copied = lock_of(spool.directory), lock_of(copy_of(spool, tmp_path))
    assert standing(manifest, own, free=True) == "gone"
    assert standing(manifest, copied, free=True) == "unknown"
    assert standing(dataclasses.replace(manifest, host="node7"), own, free=True) == "unknown"


def test_a_copy_of_a_living_writers_spool_is_not_taken_for_dead(spool: WriterSpool, tmp_path: Path) -> None:
    copy = copy_of(spool, tmp_path)
    for ended in (False, True):
        with pytest.raises(SpoolBusy, match=f"process {os.getpid()} on {platform.node()}, lives") as busy:
            WriterSpool.take_over(copy, LIMITS, ended=ended)
        assert busy.value.standing == "lives"
    assert summarize(copy).state == "live"
    elsewhere(copy)
    assert summarize(copy).state == "elsewhere"
    with pytest.raises(SpoolBusy, match="on node7, may live"):
        WriterSpool.take_over(copy, LIMITS)
    WriterSpool.take_over(copy, LIMITS, ended=True).close(remove=False)


def test_a_copy_that_is_older_than_what_was_sent_of_it_is_refused(spool: WriterSpool, tmp_path: Path) -> None:
    log_params(spool, 5)
    settle(spool)
    old = elsewhere(copy_of(spool, tmp_path))
    log_params(spool, 5)
    settle(spool)
    send_all(spool.directory)
    shutil.copy(spool.directory / "followed", old)
    assert numbers_to_send(followed(old)) == []
    with pytest.raises(FatalError, match=r"lacks events 5 to 9 of runtide\.runs, which were sent from it"):
        WriterSpool.take_over(old, LIMITS, ended=True, log=LOG)
    assert WriterSpool.take_over(old, LIMITS, ended=True, log="another.log:9092").written(topics.RUNS) == 5


def test_points_that_a_copy_lacks_are_warned_of(
    spool: WriterSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loss = spool.keys.add("loss")
    for step in range(FIRST_CAPACITY + 10):
        spool.points.append(loss, step, 1, 0.5)
    copy = elsewhere(copy_of(spool, tmp_path))
    WriterSpool.take_over(copy, LIMITS, ended=True).close(remove=False)
    assert caplog.text == ""
    (copy / "points-000001.tail").unlink()
    WriterSpool.take_over(copy, LIMITS, ended=True).close(remove=False)
    assert f"lacks metric points 0 to {FIRST_CAPACITY - 1}" in caplog.text


def test_a_spool_whose_lock_cannot_be_had_is_not_taken(spool: WriterSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.close(remove=False)

    def refuses(*_: object) -> int:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(liveness, "lock", refuses)
        with pytest.raises(SpoolBusy, match="No locks available"):
            WriterSpool.take_over(spool.directory, LIMITS, ended=True)
    WriterSpool.take_over(spool.directory, LIMITS).close(remove=False)


@contextmanager
def locked(directory: Path, how: int) -> Iterator[int]:
    """Hold a spool's lock as another process would: by a descriptor of its own."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY)
    fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sleep_is(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], object]) -> None:
    """Have those who wait for a lock do something else; threads that other tests left sleep as ever."""
    monkeypatch.setattr(manifests, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))


def test_who_only_looks_keeps_nobody_from_sending(spool: WriterSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.close(remove=False)
    with locked(spool.directory, fcntl.LOCK_SH) as looking:
        sleep_is(monkeypatch, lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        taken = WriterSpool.take_over(spool.directory, LIMITS)
    taken.close(remove=False)


def test_nobody_waits_for_a_spool_that_another_has(spool: WriterSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.close(remove=False)
    sleep_is(monkeypatch, lambda _: pytest.fail("it waits for what takes longer than a look"))
    with locked(spool.directory, fcntl.LOCK_EX), pytest.raises(SpoolBusy) as busy:
        WriterSpool.take_over(spool.directory, LIMITS)
    assert busy.value.standing in {"held", "lives"}


def test_one_who_never_ends_looking_is_not_waited_for_long(spool: WriterSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.close(remove=False)
    monkeypatch.setattr(manifests, "_LOOKING_S", 0.01)
    with locked(spool.directory, fcntl.LOCK_SH), pytest.raises(SpoolBusy):
        WriterSpool.take_over(spool.directory, LIMITS)


def test_a_manifest_of_an_older_version_is_read(spool: WriterSpool) -> None:
    path = spool.directory / "writer.json"
    fields = json.loads(path.read_text())
    for name in ("pid_namespace", "lock_device", "lock_inode"):
        del fields[name]
    path.write_text(json.dumps(fields))
    manifest = Manifest.read(spool.directory)
    assert (manifest.writer_id, manifest.lock_inode) == (spool.manifest.writer_id, 0)


def test_a_note_is_whole_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "note"
    assert read_note(path) == {}
    note = Note(path)
    note.write({"a": 199})
    old = path.read_bytes()
    note.write({"a": 200})
    new = path.read_bytes()
    assert read_note(path) == {"a": 200}
    for place in range(len(new)):
        path.write_bytes(new[:place] + old[place:])
        assert read_note(path) in ({}, {"a": 199}, {"a": 200})
    path.write_text('{"a": 7}')
    assert read_note(path) == {"a": 7}, "as versions before wrote it"
    note.close()


def test_a_long_address_costs_no_later_note_its_meaning(spool: WriterSpool) -> None:
    log_params(spool, 5)
    settle(spool)
    long = ",".join(f"kafka-broker-{number}.example.internal:9092" for number in range(20))
    assert send_all(spool.directory, long) == list(range(5))
    assert send_all(spool.directory, long) == []
    assert (spool.directory / "followed").stat().st_size > 512
    assert send_all(spool.directory) == list(range(5)), "another log has nothing yet"
    assert send_all(spool.directory) == []


def test_the_list_counts_what_was_followed_as_sent(spool: WriterSpool) -> None:
    log_params(spool, 5)
    settle(spool)
    send_all(spool.directory)
    log_params(spool, 2)
    found = summarize(spool.directory)
    assert (found.state, found.events, found.unsent) == ("live", 7, 2)
