"""Duplicated, re-ordered, late and re-sent events fold to the same state in both stores, however they are batched."""

import tempfile
from pathlib import Path
from random import Random

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.duckdb.fold import FOLDS
from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.folding import ALONE, HANDLERS
from runtide_consumers.postgres.projection import PostgresProjection
from tests.chaos.any_order import in_batches, rearranged
from tests.event_log import EventLog
from tests.random_history import RUNS, WRITERS, metrics, random_history
from tests.unit.duckdb_file import opened

PLACES = ("projection_offsets", "history", "changes", "run_extents")
"""The tables that say where in the log something stands: another log has it elsewhere. Points say so too."""
_settings = settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture])
histories = st.tuples(st.integers(0, 2**32), st.integers(1, 60))


def history_of(random: Random, length: int) -> EventLog:
    """Return a random history in which every third event holds points."""
    log = random_history(random, length)
    for _ in range(length // 3 + 1):
        log.add(metrics(random, random.choice(RUNS)), random.choice(WRITERS))
    return log


async def folded_into_duckdb(log: EventLog, random: Random) -> dict[str, str]:
    """Return the digests after folding a log into an empty file."""
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder, "history.duckdb")) as projection:
            for batch in in_batches(log, random):
                await projection.apply(batch)
            await projection.owner.run(lambda connection: connection.execute("update points set place = 0"))
            return _without_places(await projection.owner.run(table_digests))


def _without_places(digests: dict[str, str]) -> dict[str, str]:
    return {table: found for table, found in digests.items() if table not in PLACES}


async def folded_into_postgres(dsn: str, log: EventLog, random: Random) -> dict[str, str]:
    """Return the digests after folding a log into an empty schema."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("drop schema if exists any_order cascade")
        projection = PostgresProjection(dsn, "any_order")
        await projection.open()
        for batch in in_batches(log, random):
            await projection.apply(batch)
        await projection.close()
        # These are times of records, which come at other times in another log.
        await connection.execute(
            "update any_order.writer_gaps set since = 0; update any_order.writer_positions set heard_at = 0"
        )
        return _without_places(await digest(connection, "any_order"))
    finally:
        await connection.close()


async def assert_same(dsn: str, history: tuple[int, int], order: int) -> None:
    """Fold a history as it is, and in another order, into both stores."""
    seed, length = history
    log, random = history_of(Random(seed), length), Random(order)
    other = rearranged(log, random)
    assert await folded_into_duckdb(log, Random(seed)) == await folded_into_duckdb(other, random)
    assert await folded_into_postgres(dsn, log, Random(seed)) == await folded_into_postgres(dsn, other, random)


@settings(_settings, max_examples=3)
@given(history=st.tuples(st.integers(0, 2**32), st.integers(20, 40)), order=st.integers(0, 2**32))
async def test_any_order_that_keeps_each_writers_gives_the_same_digests(
    postgres_dsn: str, history: tuple[int, int], order: int
) -> None:
    await assert_same(postgres_dsn, history, order)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(_settings, max_examples=150)
@given(history=histories, order=st.integers(0, 2**32))
async def test_any_order_gives_the_same_digests_at_length(
    postgres_dsn: str, history: tuple[int, int], order: int
) -> None:
    await assert_same(postgres_dsn, history, order)


def test_these_histories_hold_every_event_that_a_store_folds() -> None:
    logged = {
        type(event.body)
        for seed in range(100)
        for events in random_history(Random(seed), 150).partitions.values()
        for event in events
    }
    folds = FOLDS.keys() | HANDLERS.keys() | ALONE.keys()
    missing = {kind.__name__ for kind in folds} - {kind.__name__ for kind in logged}
    assert not missing, f"add {sorted(missing)} to random_history: nothing shows that their order does not matter"


def test_another_order_has_copies_and_keeps_what_it_must() -> None:
    log = random_history(Random(1), 60)
    for seed in range(20):
        other = rearranged(log, Random(seed))
        ids = [event.envelope.id for events in log.partitions.values() for event in events]
        others = [event.envelope.id for events in other.partitions.values() for event in events]
        assert set(ids) == set(others)
        assert len(others) >= len(ids)
