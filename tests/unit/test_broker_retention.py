"""What retention deletes, and what a crash, a full disk or a reader in the middle of it sees."""

import contextlib
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from runtide_deploy.broker import retention
from runtide_deploy.broker.errors import DamagedLog, Refused
from runtide_deploy.broker.log.partition_log import PartitionLog
from tests.broker_batches import make_batch
from tests.broker_kills import Killed, killed_at
from tests.broker_logs import LIMIT, Logs, append, fill, records, values

NOW = 1_000_000


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    found = Logs(tmp_path / "t-0")
    found.segment_bytes = 100  # every batch gets a segment of its own
    return found


async def log_of(logs: Logs, count: int) -> PartitionLog:
    """A log of segments of one record each; record n has timestamp 1000 * n."""
    log = logs.create()
    for number, value in enumerate(values(count)):
        await append(log, value, timestamps=(1000 * number,))
    assert len(logs.files) == count
    return log


def keep(log: PartitionLog, **limits: int) -> None:
    log.limits = replace(log.limits, **limits)


def sweep(log: PartitionLog, now_ms: int = NOW) -> int:
    """Trim as the broker's sweep does, and return how many segments went."""
    trim = log.plan_trim(now_ms)
    if trim is None:
        return 0
    gone = trim.run()
    log.finish_trim(trim, gone)
    return gone


def starts(logs: Logs) -> list[int]:
    return [int(path.stem) for path in logs.files]


def expected(first: int, end: int) -> list[tuple[int, bytes | None]]:
    return [(number, b"value-%d" % number) for number in range(first, end)]


async def test_everything_is_kept_unless_told_otherwise(logs: Logs) -> None:
    log = await log_of(logs, 5)
    assert sweep(log, now_ms=1 << 60) == 0
    assert records(log) == expected(0, 5)


async def test_a_look_that_finds_no_thread_is_not_the_last(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await log_of(logs, 3)
    keep(log, retention_bytes=0)
    topics: Any = [SimpleNamespace(partitions=[log])]

    async def refuse(_: object) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("asyncio.to_thread", refuse)
        await retention.sweep(topics, NOW)
    assert starts(logs)[0] == 0
    await retention.sweep(topics, NOW)
    assert starts(logs) == [3]


async def test_segments_go_while_what_stays_reaches_the_size(logs: Logs) -> None:
    log = await log_of(logs, 10)
    size = log.size // 10
    keep(log, retention_bytes=4 * size + 1)
    assert sweep(log) == 5
    assert (log.start_offset, starts(logs)) == (5, [5, 6, 7, 8, 9])
    keep(log, retention_bytes=4 * size)
    assert sweep(log) == 1
    assert sweep(log) == 0
    assert records(log, offset=6) == expected(6, 10)


async def test_segments_go_when_their_youngest_record_is_too_old(logs: Logs) -> None:
    log = await log_of(logs, 10)
    keep(log, retention_ms=NOW - 6000)
    assert sweep(log) == 6  # record 6 has exactly the age that is kept
    assert (log.start_offset, log.end_offset) == (6, 10)
    assert sweep(log, NOW + 1) == 1


async def test_a_young_record_keeps_its_segment_and_all_behind_it(logs: Logs) -> None:
    log = logs.create()
    for timestamp in (1, NOW, 2, 3):
        await append(log, b"v", timestamps=(timestamp,))
    keep(log, retention_ms=1000)
    assert sweep(log) == 1
    assert log.start_offset == 1


async def test_an_expired_active_segment_goes_and_offsets_go_on(logs: Logs) -> None:
    log = await log_of(logs, 3)
    keep(log, retention_ms=1)
    assert sweep(log) == 3
    assert (log.start_offset, log.high_watermark, log.end_offset) == (3, 3, 3)
    assert starts(logs) == [3]
    assert sweep(log) == 0
    again = logs.open()
    assert (again.start_offset, again.end_offset) == (3, 3)
    assert await append(again, b"value-3") == 3
    assert records(again, offset=3) == expected(3, 4)


async def test_what_is_not_stored_yet_stays(logs: Logs) -> None:
    log = await log_of(logs, 2)
    log.append(make_batch(b"v", timestamps=(1,)), LIMIT)
    log.append(make_batch(b"v", timestamps=(1,)), LIMIT)
    keep(log, retention_ms=1)
    log.high_watermark = 2
    assert sweep(log) == 2
    assert (log.start_offset, log.end_offset) == (2, 4)


async def test_records_without_a_time_are_as_old_as_their_file(logs: Logs) -> None:
    log = logs.create()
    for _ in range(2):
        await append(log, b"v", timestamps=(-1,))
    keep(log, retention_ms=1000)
    assert sweep(log, now_ms=0) == 0
    os.utime(logs.files[0], (1, 1))
    assert sweep(log, now_ms=2001) == 1


async def test_a_record_far_younger_than_its_segment_begins_a_new_one(logs: Logs) -> None:
    logs.segment_bytes = 1 << 20
    logs.limits = replace(logs.limits, segment_ms=1000)
    log = logs.create()
    for timestamp in (5000, 6000, 6001, 100):
        await append(log, b"v", timestamps=(timestamp,))
    assert starts(logs) == [0, 2]
    again = logs.open()
    await append(again, b"v", timestamps=(7002,))
    assert starts(logs) == [0, 2, 4]


async def test_what_is_below_the_start_is_refused_and_not_found(logs: Logs) -> None:
    log = await log_of(logs, 6)
    keep(log, retention_ms=NOW - 3000)
    sweep(log)
    with pytest.raises(Refused) as refused:
        log.plan_read(2, LIMIT)
    assert refused.value.code is ErrorCode.offset_out_of_range
    found = log.plan_search(0).run()
    assert found is not None
    assert (found.offset, found.timestamp) == (3, 3000)


async def test_who_reads_a_deleted_segment_reads_on(logs: Logs) -> None:
    log = await log_of(logs, 4)
    plan, search = log.plan_read(0, LIMIT), log.plan_search(0)
    keep(log, retention_ms=NOW - 3000)
    assert sweep(log) == 3
    assert plan is not None
    assert plan.run().next_offset == 1
    found = search.run()
    assert found is not None
    assert found.offset == 0


@pytest.mark.parametrize("expired", [3, 6])
async def test_a_kill_at_every_step_leaves_no_hole_and_no_older_start(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, expired: int
) -> None:
    original = await log_of(logs, 6)
    whole = logs.folder.with_name("whole")
    shutil.copytree(logs.folder, whole)
    seen_starts = set()
    for call in range(100):
        shutil.rmtree(logs.folder)
        shutil.copytree(whole, logs.folder)
        log = logs.open()
        keep(log, retention_ms=NOW - 1000 * expired if expired < 6 else 1)
        with killed_at(monkeypatch, call) as made, contextlib.suppress(Killed):
            sweep(log)
        again = logs.open()
        assert log.start_offset <= again.start_offset <= expired
        assert records(again, offset=again.start_offset) == expected(again.start_offset, 6)
        assert again.end_offset == original.end_offset
        assert not [path for path in logs.folder.glob("*.index") if int(path.stem) < again.start_offset]
        keep(again, retention_ms=NOW - 1000 * expired if expired < 6 else 1)
        sweep(again)
        assert again.start_offset == logs.open().start_offset == expired
        seen_starts.add(log.start_offset)
        if len(made) < call:
            break
    assert call > 2 * expired
    assert seen_starts == {0, expired}


async def test_each_deletion_is_on_disk_before_the_next_begins(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await log_of(logs, 5)
    keep(log, retention_ms=NOW - 3000)
    steps: list[str] = []
    real_unlink, real_fsync = os.unlink, os.fsync

    def unlink(name: str, *, dir_fd: int) -> None:
        steps.append(name)
        real_unlink(name, dir_fd=dir_fd)

    def fsync(descriptor: int) -> None:
        steps.append("sync")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(os, "fsync", fsync)
    sweep(log)
    logs_deleted = [step for step in steps if step.endswith(".log") or step == "sync"]
    names = [f"{number:020d}.log" for number in range(3)]
    assert logs_deleted == ["sync", "sync", names[0], "sync", names[1], "sync", names[2], "sync"]


async def test_an_error_in_the_middle_keeps_what_could_not_go(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = await log_of(logs, 5)
    keep(log, retention_ms=NOW - 4000)
    real = os.unlink

    def unlink(name: str, *, dir_fd: int) -> None:
        if name.startswith("00000000000000000002.log"):
            raise OSError(errno.EIO, "Input/output error")
        real(name, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        assert sweep(log) == 2
    assert "Input/output error" in caplog.text
    assert (log.start_offset, starts(logs)) == (2, [2, 3, 4])
    assert records(log, offset=2) == expected(2, 5)
    assert sweep(log) == 2


async def test_a_full_disk_is_relieved(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await log_of(logs, 4)
    keep(log, retention_ms=1)
    real = os.open

    def full(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        assert sweep(log) == 3
    assert records(log, offset=3) == expected(3, 4)
    assert sweep(log) == 1
    assert log.start_offset == 4


async def test_a_topic_of_the_same_name_is_not_touched(logs: Logs) -> None:
    log = await log_of(logs, 3)
    keep(log, retention_ms=1)
    trim = log.plan_trim(NOW)
    assert trim is not None
    shutil.rmtree(logs.folder)
    other = logs.create()
    await fill(other, values(2))
    trim.run()
    assert records(logs.open()) == expected(0, 2)


@pytest.mark.parametrize("has_snapshot", [True, False])
async def test_a_producer_whose_batches_are_all_gone_goes_on(logs: Logs, has_snapshot: bool) -> None:
    log = logs.create()
    for sequence in range(3):
        await append(log, b"v", producer_id=7, epoch=1, sequence=sequence, timestamps=(1,))
    keep(log, retention_ms=1)
    assert sweep(log) == 3
    if not has_snapshot:
        for path in logs.folder.glob("*.producers"):
            path.unlink()
    for current in (log, logs.open()):
        if has_snapshot or current is log:
            again = current.append(make_batch(b"v", producer_id=7, epoch=1, sequence=2), LIMIT)
            assert (again.base_offset, again.stored) == (2, None)
            with pytest.raises(Refused):
                current.append(make_batch(b"v", producer_id=7, epoch=1, sequence=5), LIMIT)
    assert await append(logs.open(), b"value-3", producer_id=7, epoch=1, sequence=3) == 3
    reopened = logs.open()
    assert await append(reopened, b"value-4", producer_id=7, epoch=1, sequence=4) == 4
    assert records(reopened, offset=3) == expected(3, 5)


async def test_records_deleted_on_request_stay_deleted(logs: Logs) -> None:
    logs.segment_bytes = 1 << 20
    log = logs.create()
    await append(log, *values(10))
    log.delete_records(4)
    for current in (log, logs.open()):
        assert (current.start_offset, current.end_offset) == (4, 10)
        with pytest.raises(Refused):
            current.plan_read(3, LIMIT)
        assert records(current, offset=4) == expected(4, 10)
        found = current.plan_search(0).run()
        assert found is not None
        assert found.offset == 4
    log.delete_records(2)
    assert log.start_offset == 4
    for offset in (-2, 11):
        with pytest.raises(Refused) as refused:
            log.delete_records(offset)
        assert refused.value.code is ErrorCode.offset_out_of_range


async def test_segments_below_a_requested_start_go_with_the_next_sweep(logs: Logs) -> None:
    log = await log_of(logs, 5)
    log.delete_records(3)
    assert sweep(log) == 3
    assert starts(logs) == [3, 4]
    log.delete_records(5)
    assert sweep(log) == 1
    assert starts(logs) == [4]
    again = logs.open()
    assert (again.start_offset, again.end_offset) == (5, 5)
    assert await append(again, b"v") == 5


@pytest.mark.parametrize("content", [b"", b"garbage", b"00000000 12\n"])
async def test_a_damaged_start_is_refused(logs: Logs, content: bytes) -> None:
    log = await log_of(logs, 3)
    log.delete_records(1)
    (logs.folder / "start-offset").write_bytes(content)
    with pytest.raises(DamagedLog, match="start-offset is damaged"):
        logs.open()


async def test_a_start_behind_the_end_is_refused(logs: Logs) -> None:
    log = await log_of(logs, 3)
    log.delete_records(3)
    logs.files[-1].unlink()
    with pytest.raises(DamagedLog, match="begins at offset 3 but its segment files end at 2"):
        logs.open()
