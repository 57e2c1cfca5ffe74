"""Folding a store anew where the log has nothing."""

from pathlib import Path

from runtide.kafka import KafkaSettings
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.rebuild.folding import Folding
from runtide_consumers.rebuild.watch import LogWatch
from tests.unit.duckdb_file import opened


async def test_of_an_empty_log_there_is_a_new_store_all_the_same(tmp_path: Path) -> None:
    """An upgrade of a stack without a run ended at the missing file, and began anew for ever."""
    file = tmp_path / "history.duckdb"
    async with opened(file):
        pass
    store = DuckdbStore(DuckdbSettings(file=file), None)
    assert not await store.prepare("0" * 64)
    await Folding(store, KafkaSettings(bootstrap="127.0.0.1:9"), LogWatch()).until({})
    async with store.frozen() as live, store.rebuilt() as new:
        assert live.positions == {}
        assert new is not None
    assert await store.new_positions() == {}
