"""One partition's log on disk: appending, reading, opening again after every kind of end."""

import asyncio
import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import DamagedLog, Refused
from runtide_deploy.broker.log import partition_log, recovery
from runtide_deploy.broker.log.gaps import Gaps
from runtide_deploy.broker.log.producers import ProducerStates
from runtide_deploy.broker.log.segment import Segment
from tests.broker_batches import GZIP, LZ4, NO_COMPRESSION, SNAPPY, ZSTD, make_batch
from tests.broker_logs import LIMIT, Logs, append, decode, fill, records, values


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path / "t-0")


def noted_scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list that every segment scanned from now on is added to."""
    scanned: list[Path] = []
    scan = recovery.scan

    def noting(segment: Segment, end: int, producers: ProducerStates, gaps: Gaps) -> None:
        scanned.append(segment.path)
        scan(segment, end, producers, gaps)

    monkeypatch.setattr(recovery, "scan", noting)
    return scanned


async def test_what_is_appended_is_read_in_order_and_after_reopening(logs: Logs) -> None:
    log = logs.create()
    assert await append(log, b"a", b"b") == 0
    assert await append(log, b"c") == 2
    expected = [(0, b"a"), (1, b"b"), (2, b"c")]
    assert records(log) == expected
    assert records(log, offset=1, max_bytes=1) == expected[1:]
    again = logs.open()
    assert (again.start_offset, again.high_watermark, again.end_offset) == (0, 3, 3)
    assert records(again) == expected


async def test_nothing_is_readable_before_it_is_stored(logs: Logs) -> None:
    log = logs.create()
    appended = log.append(make_batch(b"a"), LIMIT)
    assert (log.high_watermark, log.end_offset) == (0, 1)
    assert log.plan_read(0, LIMIT) is None
    assert appended.stored is not None
    await asyncio.shield(appended.stored)
    assert log.high_watermark == 1


async def test_offsets_outside_the_log_are_refused(logs: Logs) -> None:
    log = logs.create()
    await append(log, b"a")
    for offset in (-1, 2):
        with pytest.raises(Refused) as refused:
            log.plan_read(offset, LIMIT)
        assert refused.value.code is ErrorCode.offset_out_of_range


async def test_segments_roll_and_open_from_their_sidecars_or_without(logs: Logs) -> None:
    logs.segment_bytes = 1000
    log = logs.create()
    expected = await fill(log, values(60))
    await append(log, b"x", producer_id=5, epoch=0, sequence=0)
    assert len(logs.files) > 3
    assert records(logs.open())[:-1] == expected
    for sidecar in logs.folder.glob("*.index"):
        sidecar.unlink()
    again = logs.open()
    assert records(again)[:-1] == expected
    assert len(list(logs.folder.glob("*.index"))) == len(logs.files)
    for sidecar in logs.folder.glob("*.index"):
        sidecar.write_bytes(sidecar.read_bytes()[:-20])
    again = logs.open()
    assert records(again)[:-1] == expected
    assert again.append(make_batch(b"x", producer_id=5, epoch=0, sequence=0), LIMIT).base_offset == 60


async def test_a_clean_stop_spares_the_next_start_the_scan(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logs.create()
    expected = await fill(log, values(50))
    await append(log, b"x", producer_id=5, epoch=0, sequence=0)
    log.close()
    scanned = noted_scans(monkeypatch)
    again = logs.open()
    assert not scanned
    assert records(again)[:-1] == expected
    assert again.append(make_batch(b"x", producer_id=5, epoch=0, sequence=0), LIMIT).base_offset == 50
    await append(again, b"y")
    assert records(logs.open())[-1] == (51, b"y")
    assert scanned == logs.files


async def test_what_is_not_stored_is_not_noted_at_a_stop(logs: Logs) -> None:
    log = logs.create()
    await append(log, b"a")
    log.append(make_batch(b"b"), LIMIT)
    log.close()
    assert not list(logs.folder.glob("*.index"))


@pytest.mark.parametrize("keep", [0, 1, 3000, -1, None], ids=str)
async def test_what_was_noted_at_a_clean_stop_is_never_taken_for_a_torn_tail(logs: Logs, keep: int | None) -> None:
    log = logs.create()
    await fill(log, values(50))
    log.close()
    whole = logs.files[0].read_bytes()
    damaged = whole[:keep] if keep is not None else whole[:-1] + bytes([whole[-1] ^ 1])
    for grown in (b"", b"torn"):  # as a killed broker leaves it
        logs.files[0].write_bytes(damaged + grown)
        with pytest.raises(DamagedLog, match=r"they were acknowledged.*repair"):
            logs.open()
        assert logs.files[0].read_bytes() == damaged + grown


async def test_what_was_noted_may_be_followed_by_a_torn_tail(logs: Logs) -> None:
    log = logs.create()
    expected = await fill(log, values(50))
    log.close()
    logs.files[0].write_bytes(logs.files[0].read_bytes() + b"torn")
    assert records(logs.open()) == expected


@pytest.mark.parametrize("place", [2, 7], ids=["far behind", "before"])
async def test_a_batch_whose_offset_is_damaged_is_not_served(logs: Logs, place: int) -> None:
    log = logs.create()
    expected = await fill(log, values(60))
    log.close()
    size = logs.files[0].stat().st_size // 60
    assert size == 75
    with logs.files[0].open("r+b") as file:
        file.seek(4 * size + place)
        file.write(b"\x01")  # no checksum covers it, and a start after a clean stop reads the end only
    again = logs.open()
    for offset, end in ((0, 4), (2, 4)):
        plan = again.plan_read(offset, LIMIT)
        assert plan is not None
        assert plan.run().next_offset == end
    damaged = again.plan_read(4, LIMIT)
    assert damaged is not None
    with pytest.raises(DamagedLog, match=r"byte (300|375)"):
        damaged.run()
    if place == 7:
        assert records(again, 5) == expected[5:]


async def test_nothing_is_written_to_a_segment_whose_name_is_not_on_disk(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.segment_bytes = 300
    log = logs.create()
    expected = await fill(log, values(3))

    def refuse(_: Path) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(partition_log, "sync_folder", refuse)
        for _ in range(2):
            with pytest.raises(Refused):
                log.append(make_batch(b"x" * 100), LIMIT)
        assert len(logs.files) == 1
    await append(log, b"x" * 100)
    assert len(logs.files) == 2
    assert records(logs.open()) == [*expected, (3, b"x" * 100)]


async def test_every_torn_tail_is_cut_and_the_rest_kept(logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    log = logs.create()
    await append(log, b"first")
    kept = logs.files[0].stat().st_size
    await append(log, b"second")
    whole = logs.files[0].read_bytes()
    for end in range(kept, len(whole)):
        logs.files[0].write_bytes(whole[:end])
        caplog.clear()
        again = logs.open()
        assert records(again) == [(0, b"first")]
        assert logs.files[0].stat().st_size == kept
        assert ("torn bytes" in caplog.text) == (end > kept)
    assert await append(again, b"third") == 1


async def test_garbage_and_zeros_at_the_tail_are_cut(logs: Logs) -> None:
    log = logs.create()
    await append(log, b"first")
    whole = logs.files[0].read_bytes()
    for tail in (bytes(5000), b"\xff" * 5000, os.urandom(5000), whole[:16] + os.urandom(200)):
        logs.files[0].write_bytes(whole + tail)
        assert records(logs.open()) == [(0, b"first")]
        assert logs.files[0].read_bytes() == whole


async def test_damage_before_valid_batches_is_refused_and_nothing_is_cut(logs: Logs) -> None:
    log = logs.create()
    await fill(log, values(5))
    whole = logs.files[0].read_bytes()
    batch = len(whole) // 5
    for position in range(16, batch):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        logs.files[0].write_bytes(damaged)
        with pytest.raises(DamagedLog, match="damaged at byte 0"):
            logs.open()
        assert logs.files[0].read_bytes() == damaged


async def test_damage_in_a_finished_segment_without_sidecar_is_refused(logs: Logs) -> None:
    logs.segment_bytes = 500
    await fill(logs.create(), values(20))
    sealed = logs.files[0]
    damaged = bytearray(sealed.read_bytes())
    damaged[-1] ^= 1
    sealed.write_bytes(damaged)
    sealed.with_suffix(".index").unlink()
    with pytest.raises(DamagedLog, match="is damaged"):
        logs.open()


async def test_a_missing_segment_in_the_middle_is_refused(logs: Logs) -> None:
    logs.segment_bytes = 500
    await fill(logs.create(), values(20))
    logs.files[1].unlink()
    with pytest.raises(DamagedLog, match="the next segment begins at"):
        logs.open()


async def test_missing_files_are_refused(logs: Logs) -> None:
    logs.folder.mkdir()
    with pytest.raises(DamagedLog, match="missing"):
        logs.open()


async def test_damage_met_while_reading_is_never_returned(logs: Logs) -> None:
    log = logs.create()
    for number, value in enumerate(values(3)):
        await append(log, value, timestamps=(number,))
    size = logs.files[0].stat().st_size // 3
    with logs.files[0].open("r+b") as file:
        file.seek(2 * size - 1)
        file.write(b"\xee")
    before, at, behind = (log.plan_read(offset, LIMIT) for offset in range(3))
    assert before is not None and at is not None and behind is not None
    assert [record.value for record in decode(before.run().records)] == [b"value-0"]
    with pytest.raises(DamagedLog, match="checksum"):
        at.run()
    assert [record.value for record in decode(behind.run().records)] == [b"value-2"]
    with pytest.raises(DamagedLog, match="checksum"):
        log.plan_search(1).run()


async def test_duplicates_keep_their_offset_across_a_restart(logs: Logs) -> None:
    log = logs.create()
    for sequence in range(3):
        await append(log, b"v%d" % sequence, producer_id=7, epoch=2, sequence=sequence)
    again = logs.open()
    repeated = again.append(make_batch(b"v1", producer_id=7, epoch=2, sequence=1), LIMIT)
    assert (repeated.base_offset, repeated.stored) == (1, None)
    with pytest.raises(Refused) as refused:
        again.append(make_batch(b"v9", producer_id=7, epoch=2, sequence=9), LIMIT)
    assert refused.value.code is ErrorCode.out_of_order_sequence_number
    assert again.end_offset == 3


async def test_a_duplicate_of_what_is_not_stored_yet_waits_for_it(logs: Logs) -> None:
    log = logs.create()
    batch = make_batch(b"v", producer_id=7, epoch=0, sequence=0)
    first, second = log.append(batch, LIMIT), log.append(batch, LIMIT)
    assert first.stored is second.stored is not None
    assert log.end_offset == 1


@pytest.mark.parametrize("compression", [NO_COMPRESSION, GZIP, SNAPPY, LZ4, ZSTD])
async def test_search_by_time_finds_the_exact_record(logs: Logs, compression: int) -> None:
    logs.segment_bytes = 600
    log = logs.create()
    for first in range(0, 100, 5):
        stamps = tuple(10 * number for number in range(first, first + 5))
        await append(log, *values(5), timestamps=stamps, compression=compression)
    for timestamp in range(0, 991, 7):
        found = log.plan_search(timestamp).run()
        assert found is not None
        expected = -(-timestamp // 10)
        assert (found.offset, found.timestamp) == (expected, 10 * expected)
    assert log.plan_search(991).run() is None
    newest = log.plan_newest().run()
    assert newest is not None
    assert newest.offset == 99


async def test_batches_larger_than_every_window(logs: Logs) -> None:
    logs.segment_bytes = 64 << 20
    log = logs.create()
    big = [os.urandom(5 << 20), os.urandom(100), os.urandom(6 << 20)]
    for value in big:
        appended = log.append(make_batch(value), 10 << 20)
    assert appended.stored is not None
    await asyncio.shield(appended.stored)
    assert [value for _, value in records(log, max_bytes=1000)] == big
    assert [value for _, value in records(logs.open())] == big


async def test_a_full_disk_refuses_the_batch_and_keeps_the_log(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logs.create()
    await append(log, b"first", producer_id=1, epoch=0, sequence=0)
    before = logs.files[0].read_bytes()
    real = os.pwritev

    def full(descriptor: int, parts: Sequence[bytes], position: int) -> int:
        real(descriptor, [parts[0]], position)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(Refused) as refused:
        await append(log, b"second", producer_id=1, epoch=0, sequence=1)
    assert refused.value.code is ErrorCode.kafka_storage_error
    assert refused.value.code.retriable
    assert logs.files[0].read_bytes() == before
    monkeypatch.undo()
    assert await append(log, b"second", producer_id=1, epoch=0, sequence=1) == 1
    assert records(logs.open()) == [(0, b"first"), (1, b"second")]


async def test_a_short_write_is_completed(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logs.create()
    real = os.pwritev
    for taken in (1, 16, 17, 60):
        monkeypatch.setattr(
            os, "pwritev", lambda fd, parts, at, taken=taken: real(fd, [b"".join(map(bytes, parts))[:taken]], at)
        )
        await append(log, b"value-%d" % taken)
    assert [value for _, value in records(logs.open())] == [b"value-1", b"value-16", b"value-17", b"value-60"]


async def test_a_failed_sync_is_final(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logs.create()

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    appended = log.append(make_batch(b"a"), LIMIT)
    assert appended.stored is not None
    async with asyncio.timeout(60):
        while not logs.failures:  # noqa: ASYNC110 - a thread syncs, and there is no event to wait for
            await asyncio.sleep(0.01)
    assert len(logs.failures) == 1
    monkeypatch.undo()
    later = log.append(make_batch(b"b"), LIMIT)
    assert later.stored is not None
    await asyncio.wait([asyncio.shield(later.stored)], timeout=0.2)
    assert not appended.stored.done()
    assert not later.stored.done()
    assert log.high_watermark == 0


async def test_one_round_covers_all_that_came_before_it(logs: Logs, tmp_path: Path) -> None:
    other = Logs(tmp_path / "t-1")
    other.commit = logs.commit
    first, second = logs.create(), other.create()
    rounds = {log.append(make_batch(b"x"), LIMIT).stored for log in (first, second, first, second)}
    assert len(rounds) == 1
    await asyncio.shield(next(r for r in rounds if r is not None))
    assert (first.high_watermark, second.high_watermark) == (2, 2)


async def test_a_refused_partition_answers_why(logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    log = logs.create()
    log.refuse("the file is damaged")
    assert caplog.records[-1].levelno == logging.ERROR
    with pytest.raises(Refused, match="the file is damaged"):
        log.append(make_batch(b"a"), LIMIT)
    with pytest.raises(Refused, match="the file is damaged"):
        log.plan_read(0, LIMIT)
