"""Operators decide about parked records: order per entity, exactly once, and the same from the beginning of the log."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtide_consumers.duckdb import fold, points, transaction
from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.projection import Place
from tests.parked_log import Loop, ParkedLog, break_handlers, history_of_decisions
from tests.unit.duckdb_file import opened, rows
from tests.unit.random_log import random_log

RUN, OTHER = "a" * 32, "b" * 32
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
