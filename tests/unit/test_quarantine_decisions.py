"""Operators decide about parked records: order per entity, exactly once, and the same from the beginning of the log."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtide_consumers.duckdb import fold, points, transaction
from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.duckdb.log_state import LogState
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.projection import Place
from runtide_schemas.errors import FatalError, TransientError
from runtide_schemas.events.runs import RunEnded
from tests.parked_log import (
    OTHER,
    RUN,
    Dying,
    Loop,
    ParkedLog,
    break_handlers,
    dies,
    history_of_decisions,
    log_with_poison,
)
from tests.unit.duckdb_file import opened, rows
from tests.unit.event_log import AT
from tests.unit.random_log import random_log

QUARANTINE = "SELECT topic, partition, record_offset, entity, kind FROM quarantine ORDER BY ALL"


def asked(projection: DuckdbProjection) -> Callable[[], Any]:
    """Return a function that asks what is in quarantine."""

    async def parked() -> list[tuple[Place, str, str]]:
        return [(Place(*row[:3]), row[3], row[4]) for row in await rows(projection, QUARANTINE)]

    return parked


def break_folds(bad: set[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fold fail for the records of ``bad``: in a handler, or, for points, where nothing catches it."""
    break_handlers(fold.FOLDS, bad, monkeypatch)
    points_table = points.points_table

    def broken(events: Any, surrogates: Any) -> Any:
        if found := [event.origin.offset for event in events if event.origin.place in bad]:
            raise IndexError(f"no column for {found[0]}")
        return points_table(events, surrogates)

    monkeypatch.setattr(transaction, "points_table", broken)


@pytest.mark.parametrize("seed", [1, 66, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))])
async def test_a_fold_from_the_beginning_gives_what_decisions_led_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    log = ParkedLog(random_log(random))
    places = list(log.places())
    bad = set(random.sample(places, len(places) // 6))
    for place in random.sample(places, len(places) // 20):
        log.spoil(place)
    break_folds(bad, monkeypatch)
    async with (
        opened(tmp_path / "live.duckdb", threads=1) as live,
        opened(tmp_path / "again.duckdb", threads=1) as again,
    ):
        await history_of_decisions(Loop(live), log, bad, random, asked(live))
        rebuild = Loop(again)
        await rebuild.start()
        await rebuild.read_all(log, random)
        digests = [await projection.owner.run(table_digests) for projection in (live, again)]
    assert [table for table in digests[0] if digests[0][table] != digests[1][table]] == []


async def test_what_is_poison_again_is_parked_again_with_the_new_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, bad = log_with_poison()
    first, second = sorted(bad)
    break_handlers(fold.FOLDS, bad, monkeypatch)
    tags = "SELECT key, value FROM tags ORDER BY 1"
    kinds = "SELECT record_offset, kind, reason FROM quarantine ORDER BY 1"
    async with opened(tmp_path / "history.duckdb") as projection:
        loop = Loop(projection)
        await loop.start()
        await loop.read_on(log)
        assert await rows(projection, "SELECT run_id FROM runs WHERE started ORDER BY 1") == [(RUN,), (OTHER,)]
        assert [kind for _, kind, _ in await rows(projection, kinds)] == ["failed", "behind", "behind", "behind"]
        bad.discard(first)
        log.release("duckdb", RUN)
        await loop.read_on(log)
        assert await rows(projection, tags) == [("a", "2"), ("b", "1")]
        waits = f"waits behind a parked record of {RUN}"
        assert await rows(projection, kinds) == [
            (second.offset, "failed", "folding TagsDeleted failed: KeyError: 'no such thing as 3'"),
            (second.offset + 1, "behind", waits),
        ]
        assert loop.blocked == {RUN}
        log.release("postgres", RUN)
        await loop.read_on(log)
        assert len(await rows(projection, kinds)) == 2, "that was another projection's"
        bad.clear()
        log.release("duckdb", RUN)
        await loop.read_on(log)
        assert loop.blocked == frozenset()
        log.append(RunEnded(run_id=RUN, status="FINISHED", end_time=AT), seq=5)
        await loop.read_on(log)
        assert (await rows(projection, tags), await rows(projection, kinds)) == ([("a", "3")], [])
        assert await rows(projection, f"SELECT status FROM runs WHERE run_id = '{RUN}'") == [("FINISHED",)]
        assert await rows(projection, "FROM writer_gaps") == []


async def test_a_dropped_record_is_never_applied_and_what_waits_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, bad = log_with_poison()
    first, second = sorted(bad)
    break_handlers(fold.FOLDS, bad, monkeypatch)
    async with opened(tmp_path / "live.duckdb") as live, opened(tmp_path / "again.duckdb") as again:
        loop = Loop(live)
        await loop.start()
        await loop.read_on(log)
        log.drop("duckdb", first, RUN)
        await loop.read_on(log)
        assert await rows(live, "SELECT key, value FROM tags ORDER BY 1") == [("a", "2"), ("b", "1")]
        log.drop("duckdb", second, RUN)
        await loop.read_on(log)
        assert await rows(live, "SELECT key, value FROM tags ORDER BY 1") == [("a", "3"), ("b", "1")]
        kept = await rows(live, "SELECT kind, reason, octet_length(headers) > 9 FROM quarantine")
        assert kept == [("dropped", "not worth it", True)] * 2
        assert await rows(live, "SELECT first_seq, last_seq FROM writer_gaps ORDER BY 1") == [(1, 1), (3, 3)]
        bad.clear()  # fixed or not, and whatever is read first
        rebuild = Loop(again)
        await rebuild.start()
        await rebuild.read_all(log, Random(3))
        assert await live.owner.run(table_digests) == await again.owner.run(table_digests)


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
async def test_killed_at_any_transaction_of_decisions_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Every transaction of a release that finds poison again, of a drop and of a release of the rest, in turn."""
    log, bad = log_with_poison()
    first, _ = sorted(bad)
    decided = log.copy()
    decided.release("duckdb", RUN)
    decided.drop("duckdb", first, RUN)
    break_handlers(fold.FOLDS, bad, monkeypatch)
    found, at, died = set(), 0, True
    while died:
        at += 1
        async with opened(tmp_path / f"{at}.duckdb", threads=1) as projection:
            loop = Loop(projection)
            await loop.start()
            await loop.read_on(log)
            dying: Any = Dying(projection, at, committed=committed)
            loop = Loop(dying)
            await loop.start()
            died = await dies(loop, decided)
            await loop.start()
            await loop.read_on(decided)
            found.add(tuple((await projection.owner.run(table_digests)).items()))
            assert await rows(projection, "SELECT key, value FROM tags ORDER BY 1") == [("a", "2"), ("b", "1")]
    assert at > 3, "a release that parks again, a drop, and a release of what waited"
    assert len(found) == 1


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(28, "No space left on device"), TransientError("away"), FatalError("damaged")]
)
async def test_an_error_of_the_store_or_the_machine_is_no_fault_of_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    log, _ = log_with_poison()

    def fails(*_: Any) -> Any:
        raise error

    async with opened(tmp_path / "history.duckdb") as projection:
        loop = Loop(projection)
        await loop.start()
        with monkeypatch.context() as patched:
            patched.setattr(LogState, "write", fails)
            with pytest.raises(type(error)):
                await loop.read_on(log)
        assert await rows(projection, "FROM quarantine") == []
        await loop.start()
        await loop.read_on(log)
        assert await rows(projection, "SELECT count(*) FROM tags") == [(1,)]
