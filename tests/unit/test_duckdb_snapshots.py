"""Copies of the DuckDB file, beside reads that are in the way of a checkpoint."""

import asyncio
from pathlib import Path
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
from tests.unit.event_log import EventLog


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
