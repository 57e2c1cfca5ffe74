"""Copies of the DuckDB file: how old one may be, and what reads that are in the way of a checkpoint do to them."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtide_consumers.duckdb import snapshots
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.snapshots import Snapshots
from runtide_consumers.projection import TopicPartition
from runtide_schemas import topics
from runtide_schemas.errors import TransientError
from runtide_schemas.events.runs import RunUpdated, TagsSet
from tests.unit.duckdb_file import opened
from tests.unit.event_log import EventLog, metrics


async def second_is_the_first(
    path: Path, copy_took: float, asked_after: float, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Take a snapshot, change the file, take one again; by a clock that stands still but for these times."""
    clock = [1000.0]
    copy = snapshots._copy_file

    def slow_copy(source: Path, target: Path) -> None:
        copy(source, target)
        clock[0] += copy_took

    monkeypatch.setattr(snapshots, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(snapshots, "_copy_file", slow_copy)
    log = EventLog()
    log.append(metrics("r", [("loss", 1, 1, 0.5)]))
    async with opened(path / "history.duckdb") as projection:
        taken = Snapshots(projection.owner, DuckdbSettings(file=path / "history.duckdb", snapshot_seconds=2))
        first = await taken.take()
        await projection.apply(log.batch())
        clock[0] += asked_after
        return await taken.take() == first


async def test_what_was_copied_quickly_is_copied_again_once_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await second_is_the_first(tmp_path, 0.001, 0.03, monkeypatch)


async def test_what_took_long_is_used_for_a_while_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await second_is_the_first(tmp_path, 3.0, 1.9, monkeypatch)


async def test_none_is_older_than_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not await second_is_the_first(tmp_path, 3.0, 2.1, monkeypatch)


async def read_beside_a_change(projection: DuckdbProjection) -> Any:
    """Begin a read, and change what it has seen: DuckDB refuses a checkpoint until the read has ended."""
    log = EventLog()
    log.append(TagsSet(run_id="r1", tags={"a": "b"}))
    await projection.apply(log.batch())
    loan = projection.owner.lend()
    loan.cursor.execute("BEGIN TRANSACTION READ ONLY")
    loan.cursor.execute("SELECT count(*) FROM runs").fetchall()
    log.append(RunUpdated(run_id="r1", status="FINISHED"))
    whole = log.batch()
    begins: dict[TopicPartition, int] = {place: end - 1 for place, end in whole.positions.items()}
    await projection.apply(type(whole)(whole.events[1:], positions=whole.positions, begins=begins))
    return loan


async def test_a_snapshot_waits_for_reads_that_are_in_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runtide sql` was refused whenever the gateway was reading a curve at that moment."""
    failed, loop, copy = asyncio.Event(), asyncio.get_running_loop(), Snapshots._copy

    def told(self: Snapshots, connection: Any, source: Path) -> Any:
        try:
            return copy(self, connection, source)
        except TransientError:
            loop.call_soon_threadsafe(failed.set)
            raise

    monkeypatch.setattr(Snapshots, "_copy", told)
    monkeypatch.setattr(snapshots, "_WAIT_FOR_READS_S", 600.0)
    async with opened(tmp_path / "history.duckdb") as projection:
        loan = await read_beside_a_change(projection)
        taking = asyncio.create_task(
            Snapshots(projection.owner, DuckdbSettings(file=tmp_path / "history.duckdb")).take()
        )
        async with asyncio.timeout(60):
            await failed.wait()
            loan.give_back()
            taken = await taking
        assert taken.path.exists()
        assert {place.topic for place in taken.positions} == {topics.RUNS}


async def test_a_read_that_does_not_end_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_WAIT_FOR_READS_S", 0.0)
    async with opened(tmp_path / "history.duckdb") as projection:
        loan = await read_beside_a_change(projection)
        with pytest.raises(TransientError, match="while reads of it go on"):
            await Snapshots(projection.owner, DuckdbSettings(file=tmp_path / "history.duckdb")).take()
        loan.give_back()
