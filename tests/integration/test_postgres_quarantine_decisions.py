"""What operators decide leads PostgreSQL to the state that a fold from the beginning gives, whatever they decide."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import asyncpg
import pytest

from runtide_consumers.postgres import folding
from runtide_consumers.postgres import projection as transaction
from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Event, Place
from runtide_schemas.events.runs import RunStarted, TagsSet
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
from tests.unit.event_log import AT
from tests.unit.random_log import random_log


@asynccontextmanager
async def opened(dsn: str, schema: str) -> AsyncIterator[PostgresProjection]:
    """A projection into a schema of its own."""
    projection = PostgresProjection(dsn, schema)
    await projection.open()
    try:
        yield projection
    finally:
        await projection.close()


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to look at what was folded."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 23))])
async def test_a_fold_from_the_beginning_gives_what_decisions_led_to(
    postgres_dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    log = ParkedLog(random_log(random))
    places = list(log.places())
    bad = set(random.sample(places, len(places) // 6))
    for place in random.sample(places, len(places) // 20):
        log.spoil(place)
    break_handlers(folding.HANDLERS, bad, monkeypatch)

    async def parked() -> list[tuple[Place, str, str]]:
        rows = await connection.fetch("select topic, partition, record_offset, entity, kind from live.quarantine")
        return sorted((Place(*row[:3]), row[3], row[4]) for row in rows)

    async with opened(postgres_dsn, "live") as live, opened(postgres_dsn, "again") as again:
        await history_of_decisions(Loop(live), log, bad, random, parked)
        rebuild = Loop(again)
        await rebuild.start()
        await rebuild.read_all(log, random)
    found, expected = await digest(connection, "live"), await digest(connection, "again")
    assert [table for table in found if found[table] != expected[table]] == []


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
async def test_killed_at_any_transaction_of_decisions_nothing_is_lost_or_doubled(
    postgres_dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Every transaction of a release that finds poison again, of a drop and of a release of the rest, in turn."""
    log, bad = log_with_poison()
    first, _ = sorted(bad)
    decided = log.copy()
    decided.release("postgres", RUN)
    decided.drop("postgres", first, RUN)
    break_handlers(folding.HANDLERS, bad, monkeypatch)
    found, at, died = set(), 0, True
    while died:
        at += 1
        async with opened(postgres_dsn, f"at_{at}") as projection:
            loop = Loop(projection)
            await loop.start()
            await loop.read_on(log)
            dying: Any = Dying(projection, at, committed=committed)
            loop = Loop(dying)
            await loop.start()
            died = await dies(loop, decided)
            await loop.start()
            await loop.read_on(decided)
        found.add(tuple((await digest(connection, f"at_{at}")).items()))
    assert at > 3, "a release that parks again, a drop, and a release of what waited"
    assert len(found) == 1


async def test_a_bug_anywhere_in_folding_parks_the_event_that_meets_it(
    postgres_dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of the handlers too, where nothing else would catch it."""
    log = ParkedLog()
    for number in range(20):
        log.append(RunStarted(run_id=f"{number:032x}", name="x", start_time=AT), f"w{number}")
    met = log.append(TagsSet(run_id=RUN, tags={"a": "1"}))
    log.append(TagsSet(run_id=OTHER, tags={"a": "1"}), "w1")
    needed_rows = folding.needed_rows

    def broken(events: list[Event]) -> Any:
        if any(event.origin.place == met for event in events):
            raise IndexError("list index out of range")
        return needed_rows(events)

    monkeypatch.setattr(transaction, "needed_rows", broken)
    async with opened(postgres_dsn, "live") as live:
        loop = Loop(live)
        await loop.start()
        await loop.read_on(log)
    (row,) = await connection.fetch("select entity, kind, reason, record_offset from live.quarantine")
    assert tuple(row) == (RUN, "failed", "IndexError: list index out of range", met.offset)
    assert await connection.fetchval("select count(*) from live.runs") == 21
