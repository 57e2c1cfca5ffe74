"""How old a snapshot may be: a copy that costs little is made anew, one that costs much is used for a while."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from runtide_consumers.duckdb import snapshots
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.snapshots import Snapshots
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
