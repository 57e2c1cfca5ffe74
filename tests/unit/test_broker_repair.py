"""Giving up what is damaged in a log: exactly that is lost, the rest is served, and nothing is deleted."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from runtide_deploy.broker.errors import DamagedLog
from runtide_deploy.broker.log import repair
from runtide_deploy.broker.log.gaps import Gap, Gaps
from runtide_deploy.broker.log.partition_log import PartitionLog
from runtide_deploy.broker.log.repair import PartitionReport, examine_partition
from tests.broker_batches import make_batch
from tests.broker_kills import Killed, killed_at
from tests.broker_logs import LIMIT, Logs, append, fill, records, values

BATCHES = 20


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    found = Logs(tmp_path / "t-0")
    found.segment_bytes = 400  # five batches of one record each
    return found


async def filled(logs: Logs) -> PartitionLog:
    log = logs.create()
    await fill(log, values(BATCHES))
    assert [int(path.stem) for path in logs.files] == [0, 5, 10, 15]
    for cache in logs.folder.glob("*.index"):
        cache.unlink()  # with it a start would not read what is damaged
    return log


def without(*lost: int) -> list[tuple[int, bytes | None]]:
    return [(number, b"value-%d" % number) for number in range(BATCHES) if number not in lost]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x55
    path.write_bytes(content)


def repaired(logs: Logs, *lost: int) -> PartitionReport:
    """Repair, and check that exactly these offsets are lost and that the log serves all others."""
    with pytest.raises(DamagedLog, match=r"broker\.repair"):
        logs.open()
    before = {path: path.read_bytes() for path in logs.files}
    report = examine_partition(logs.folder)
    assert not report.is_sound
    assert before == {path: path.read_bytes() for path in logs.files}
    assert [number for gap in report.lost for number in range(*gap)] == list(lost)
    aside = repair.apply(report)
    for path in aside.glob("*.log"):
        assert path.read_bytes() == before[logs.folder / path.name]
    assert set(before) - set(logs.files) <= {logs.folder / path.name for path in aside.glob("*.log")}
    check(logs, *lost)
    return report


def check(logs: Logs, *lost: int) -> PartitionLog:
    """Read the log from every offset, with and without its caches."""
    assert examine_partition(logs.folder).is_sound
    for _ in range(2):
        log = logs.open()
        assert records(log, offset=log.start_offset) == without(*lost)
        for offset in range(log.start_offset, BATCHES):
            assert records(log, offset, max_bytes=1) == [r for r in without(*lost) if r[0] >= offset]
    return log


async def test_a_sound_log_is_left_alone(logs: Logs) -> None:
    await filled(logs)
    report = examine_partition(logs.folder)
    assert report.is_sound
    assert (report.end, report.lost, report.damage) == (BATCHES, (), ())


async def test_a_flipped_byte_costs_its_batch_only(logs: Logs, tmp_path: Path) -> None:
    await filled(logs)
    whole = tmp_path / "whole"
    shutil.copytree(logs.folder, whole)
    size = logs.files[1].stat().st_size // 5
    for position in range(2 * size, 3 * size, 3):
        if 12 <= position - 2 * size < 16:
            continue  # the leader epoch, which no checksum covers and nobody reads
        shutil.rmtree(logs.folder)
        shutil.copytree(whole, logs.folder)
        flip(logs.files[1], position)
        report = repaired(logs, 7)
        assert (report.damage[0].start, report.damage[0].end) == (2 * size, 3 * size)


async def test_damage_in_the_last_segment_before_valid_data(logs: Logs) -> None:
    await filled(logs)
    size = logs.files[3].stat().st_size // 5
    flip(logs.files[3], 3 * size + 70)
    with logs.files[3].open("ab") as file:
        file.write(b"torn")
    report = repaired(logs, 18)
    assert report.segments[-1].torn_bytes == 4
    log = logs.open()
    assert await append(log, b"value-20") == BATCHES


async def test_a_torn_tail_is_no_damage(logs: Logs) -> None:
    await filled(logs)
    with logs.files[3].open("ab") as file:
        file.write(os.urandom(50))
    report = examine_partition(logs.folder)
    assert report.is_sound
    assert report.segments[-1].torn_bytes == 50


@pytest.mark.parametrize("keep", [0, 1, 100, 161])
async def test_a_truncated_middle_segment_loses_its_end(logs: Logs, keep: int) -> None:
    await filled(logs)
    size = logs.files[1].stat().st_size // 5
    os.truncate(logs.files[1], keep)
    repaired(logs, *range(5 + keep // size, 10))


async def test_a_missing_middle_segment_is_lost(logs: Logs) -> None:
    await filled(logs)
    logs.files[2].unlink()
    report = repaired(logs, *range(10, 15))
    assert report.damage == ()


async def test_a_first_segment_of_garbage_is_lost_and_the_log_begins_behind(logs: Logs) -> None:
    await filled(logs)
    logs.files[0].write_bytes(os.urandom(500))
    repaired(logs, *range(5))
    assert logs.open().start_offset == 5


async def test_several_damages_one_after_another(logs: Logs) -> None:
    await filled(logs)
    size = logs.files[0].stat().st_size // 5
    flip(logs.files[0], 70)
    flip(logs.files[0], size + 70)
    flip(logs.files[1], 4 * size + 70)
    logs.files[2].unlink()
    repaired(logs, 0, 1, *range(9, 15))
    flip(logs.files[-1], size + 70)
    logs.files[-1].with_suffix(".index").unlink(missing_ok=True)
    report = examine_partition(logs.folder)
    assert report.lost == (Gap(16, 17),)
    repair.apply(report)
    check(logs, 0, 1, *range(9, 15), 16)


async def test_only_what_was_given_up_may_be_missing(logs: Logs) -> None:
    await filled(logs)
    logs.files[2].unlink()
    repaired(logs, *range(10, 15))
    logs.files[1].unlink()
    with pytest.raises(DamagedLog, match="the next segment begins at 15"):
        logs.open()


async def test_a_value_that_looks_like_a_batch_is_not_taken_for_one(logs: Logs) -> None:
    logs.segment_bytes = 1 << 20
    inner = make_batch(b"inside")
    log = logs.create()
    for value in (b"a", inner, b"b"):
        await append(log, value)
    start = logs.files[0].read_bytes().index(inner)
    flip(logs.files[0], start - 3)
    report = examine_partition(logs.folder)
    assert report.lost == (Gap(1, 2),)
    repair.apply(report)
    assert records(logs.open()) == [(0, b"a"), (2, b"b")]


async def test_a_damaged_start_and_a_log_that_ends_before_it(logs: Logs) -> None:
    log = await filled(logs)
    log.delete_records(19)
    logs.files[3].unlink()
    report = examine_partition(logs.folder)
    assert report.lost == (Gap(15, 19),)
    repair.apply(report)
    again = logs.open()
    assert (again.start_offset, again.end_offset) == (19, 19)
    assert await append(again, b"v") == 19
    (logs.folder / "start-offset").write_text("garbage")
    report = examine_partition(logs.folder)
    assert [path.name for path in report.unreadable] == ["start-offset"]
    aside = repair.apply(report)
    assert (aside / "start-offset").read_text() == "garbage"
    assert logs.open().start_offset == 0


@pytest.mark.parametrize("place", [2, 7], ids=["far behind", "before"])
async def test_a_batch_whose_offset_is_damaged_costs_itself_only(logs: Logs, place: int) -> None:
    logs.segment_bytes = 1 << 20
    log = logs.create()
    await fill(log, values(BATCHES))
    flip(logs.files[0], 4 * (logs.files[0].stat().st_size // BATCHES) + place)
    repaired(logs, 4)


@pytest.mark.parametrize("keep", [0, 90, 160, -1], ids=str)
async def test_a_tail_that_was_stored_at_a_clean_stop_is_lost_and_its_offsets_stay_used(logs: Logs, keep: int) -> None:
    logs.segment_bytes = 1 << 20
    log = logs.create()
    await fill(log, values(BATCHES))
    size = logs.files[0].stat().st_size // BATCHES
    log.close()
    logs.files[0].write_bytes(logs.files[0].read_bytes()[:keep])
    whole = (keep if keep >= 0 else BATCHES * size - 1) // size
    log = repaired_end(logs, whole)
    assert log.end_offset == BATCHES
    assert await append(log, b"next") == BATCHES
    assert records(logs.open(), log.start_offset) == [*without(*range(whole, BATCHES)), (BATCHES, b"next")]


def repaired_end(logs: Logs, whole: int) -> PartitionLog:
    with pytest.raises(DamagedLog, match=r"broker\.repair"):
        logs.open()
    report = examine_partition(logs.folder)
    assert report.lost == (Gap(whole, BATCHES),)
    repair.apply(report)
    assert examine_partition(logs.folder).is_sound
    return logs.open()


async def test_a_folder_without_segments_cannot_be_repaired(logs: Logs) -> None:
    logs.folder.mkdir()
    report = examine_partition(logs.folder)
    assert not report.is_sound
    with pytest.raises(DamagedLog, match="restore it from a copy"):
        repair.apply(report)


async def test_a_kill_at_every_step_can_be_repaired_again(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await filled(logs)
    size = logs.files[1].stat().st_size // 5
    flip(logs.files[0], size + 70)
    logs.files[1].write_bytes(b"garbage")
    whole = tmp_path / "whole"
    shutil.copytree(logs.folder, whole)
    for call in range(100):
        shutil.rmtree(logs.folder)
        shutil.copytree(whole, logs.folder)
        with killed_at(monkeypatch, call) as made, contextlib.suppress(Killed):
            repair.apply(examine_partition(logs.folder))
        report = examine_partition(logs.folder)
        if not report.is_sound:
            repair.apply(report)
        check(logs, 1, *range(5, 10))
        kept = {path.read_bytes() for path in (logs.folder / "damaged").rglob("*.log")}
        assert {(whole / path.name).read_bytes() for path in logs.files[:1]} <= kept
        assert b"garbage" in kept
        if len(made) < call:
            break
    assert call > 8


async def test_a_producer_goes_on_behind_a_gap(logs: Logs) -> None:
    log = logs.create()
    for sequence in range(BATCHES):
        await append(log, b"value-%d" % sequence, producer_id=3, epoch=0, sequence=sequence)
    for cache in logs.folder.glob("*.index"):
        cache.unlink()
    flip(logs.files[0], 70)
    repaired(logs, 0)
    assert await append(logs.open(), b"v", producer_id=3, epoch=0, sequence=BATCHES) == BATCHES


def test_gaps_join_and_allow_only_what_they_hold() -> None:
    gaps = Gaps((Gap(5, 8),)).joined((Gap(8, 10), Gap(1, 2), Gap(20, 21)))
    assert gaps.ranges == (Gap(1, 2), Gap(5, 10), Gap(20, 21))
    assert gaps.allow(5, 10)
    assert gaps.allow(6, 9)
    for expected, found in ((4, 10), (5, 11), (0, 1), (5, 5), (30, 31), (9, 8)):
        assert not gaps.allow(expected, found)


async def test_a_compacted_reader_meets_the_high_watermark_in_a_gap(logs: Logs) -> None:
    log = await filled(logs)
    log.delete_records(20)
    logs.files[3].unlink()
    repair.apply(examine_partition(logs.folder))
    again = logs.open()
    assert again.plan_read(20, LIMIT) is None
    await append(again, b"v")
    assert records(again, offset=20) == [(20, b"v")]


LOST_ENDS: dict[str, Callable[[list[Path]], object]] = {
    "a truncated last segment": lambda files: files[3].write_bytes(files[3].read_bytes()[:100]),
    "an empty last segment": lambda files: files[3].write_bytes(b""),
    "the last batch": lambda files: flip(files[3], files[3].stat().st_size - 1),
    "the only batch of the last segment": lambda files: flip(files[4], 70),
}


async def log_with_a_lost_end(logs: Logs, lose: str) -> int:
    """Return where the log ends whose end is lost in a way."""
    log = await filled(logs)
    if "only" in lose:
        await append(log, b"value-%d" % BATCHES)
    log.close()
    LOST_ENDS[lose](logs.files)
    return log.end_offset


@pytest.mark.parametrize("lose", LOST_ENDS)
async def test_who_reads_a_log_that_ends_in_a_gap_gets_to_its_end(logs: Logs, lose: str) -> None:
    end = await log_with_a_lost_end(logs, lose)
    report = examine_partition(logs.folder)
    assert report.ends_in_gap
    repair.apply(report)
    log = logs.open()
    [lost] = report.lost
    assert (lost.following, log.end_offset, log.high_watermark) == (end, end, end)
    for offset in range(lost.first, end):
        plan = log.plan_read(offset, 1)
        assert plan is not None
        result = plan.run()
        assert result.next_offset == end
        batch = DefaultRecordBatch(bytes(result.records))
        assert batch.validate_crc()
        assert (batch.base_offset, batch.next_offset, list(batch)) == (end - 1, end, [])
    assert await append(log, b"next") == end
    assert records(logs.open(), lost.first) == [(end, b"next")]


@pytest.mark.parametrize("lose", LOST_ENDS)
async def test_a_kill_while_the_end_is_repaired(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lose: str
) -> None:
    end = await log_with_a_lost_end(logs, lose)
    whole = tmp_path / "whole"
    shutil.copytree(logs.folder, whole)
    for call in range(100):
        shutil.rmtree(logs.folder)
        shutil.copytree(whole, logs.folder)
        with killed_at(monkeypatch, call) as made, contextlib.suppress(Killed):
            repair.apply(examine_partition(logs.folder))
        report = examine_partition(logs.folder)
        if not report.is_sound:
            repair.apply(report)
        log = logs.open()
        plan = log.plan_read(end - 1, 1)
        assert plan is not None
        assert (plan.run().next_offset, log.end_offset) == (end, end)
        if len(made) < call:
            break
    assert call > 5


async def test_a_log_that_was_repaired_without_an_empty_batch_gets_one(logs: Logs) -> None:
    await log_with_a_lost_end(logs, "a truncated last segment")
    repair.apply(examine_partition(logs.folder))
    logs.files[-2].unlink()  # what an earlier version left behind
    report = examine_partition(logs.folder)
    assert not report.is_sound
    repair.apply(report)
    assert examine_partition(logs.folder).is_sound
    assert (logs.open().plan_read(BATCHES - 1, 1) or pytest.fail("nothing to read")).run().next_offset == BATCHES
