"""The store of committed group offsets."""

import asyncio
from pathlib import Path

import pytest

from runtide_deploy.broker.errors import CannotStart
from runtide_deploy.broker.groups import offsets as offsets_module
from runtide_deploy.broker.groups.offsets import Committed, OffsetStore
from runtide_deploy.broker.log.group_commit import GroupCommit


def opened(path: Path) -> OffsetStore:
    store = OffsetStore(path, GroupCommit(0.0, lambda error: None))
    store.open()
    return store


async def commit(store: OffsetStore, group: str, *changes: Committed) -> None:
    await asyncio.wait_for(asyncio.shield(store.store(group, changes)), 60)


async def test_the_last_commit_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "offsets.log"
    store = opened(path)
    await commit(store, "g", Committed("t", 0, 5), Committed("t", 1, 7, 0, "héllo"))
    await commit(store, "g", Committed("t", 0, 6))
    await commit(store, "h", Committed("t", 0, 1))
    again = opened(path)
    assert again.find("g", "t", 0) == Committed("t", 0, 6)
    assert again.find("g", "t", 1) == Committed("t", 1, 7, 0, "héllo")
    assert again.find("g", "t", 2) is None
    assert set(again.group_ids()) == {"g", "h"}


async def test_deleted_groups_and_topics_stay_deleted(tmp_path: Path) -> None:
    path = tmp_path / "offsets.log"
    store = opened(path)
    await commit(store, "g", Committed("t", 0, 5), Committed("u", 0, 7))
    await commit(store, "h", Committed("t", 0, 1))
    store.delete_topic("t")
    assert store.group_ids() == ("g",)
    again = opened(path)
    assert [change.topic for change in again.of_group("g")] == ["u"]
    again.delete_group("g")
    assert opened(path).group_ids() == ()


async def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "offsets.log"
    store = opened(path)
    await commit(store, "g", Committed("t", 0, 5))
    kept = path.stat().st_size
    await commit(store, "g", Committed("t", 0, 6))
    whole = path.read_bytes()
    for end in range(kept, len(whole)):
        path.write_bytes(whole[:end])
        again = opened(path)
        assert again.find("g", "t", 0) == Committed("t", 0, 5)


async def test_damage_before_the_tail_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "offsets.log"
    store = opened(path)
    for offset in range(3):
        await commit(store, "g", Committed("t", 0, offset))
    damaged = bytearray(path.read_bytes())
    damaged[12] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CannotStart, match="damaged at line 1"):
        opened(path)


async def test_the_file_is_rewritten_when_mostly_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets_module, "_REWRITE_BYTES", 2000)
    path = tmp_path / "offsets.log"
    store = opened(path)
    for offset in range(200):
        await commit(store, "g", Committed("t", 0, offset))
    assert path.stat().st_size < 3000
    assert opened(path).find("g", "t", 0) == Committed("t", 0, 199)
