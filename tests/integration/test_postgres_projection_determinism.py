"""The PostgreSQL projection gives the same rows, bit for bit, however the log is cut and interleaved."""

from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.projection import PostgresProjection
from tests.event_log import EventLog
from tests.random_history import random_history


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to look at what was folded."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def folded(
    dsn: str, connection: asyncpg.Connection, log: EventLog, schema: str, cut: Random | None
) -> dict[str, str]:
    """Fold a log into a fresh schema, in one batch or in random ones, and return the digests."""
    await connection.execute(f"drop schema if exists {schema} cascade")
    projection = PostgresProjection(dsn, schema)
    await projection.open()
    for batch in [log.everything()] if cut is None else log.batches(cut):
        await projection.apply(batch)
    await projection.close()
    return await digest(connection, schema)


@pytest.mark.parametrize("seed", range(25))
async def test_any_cut_and_interleaving_folds_to_the_same_rows(
    postgres_dsn: str, connection: asyncpg.Connection, seed: int
) -> None:
    log = random_history(Random(seed), length=150)
    at_once = await folded(postgres_dsn, connection, log, "at_once", None)
    in_pieces = await folded(postgres_dsn, connection, log, "in_pieces", Random(seed + 1000))
    different = {table for table in at_once if at_once[table] != in_pieces[table]}
    assert not different


async def test_the_digest_sees_a_changed_bit(postgres_dsn: str, connection: asyncpg.Connection) -> None:
    log = random_history(Random(1), length=80)
    before = await folded(postgres_dsn, connection, log, "one", None)
    changed = await connection.execute(
        "update one.metric_summaries set last_value = "
        "case when float8send(last_value) = float8send('-0') then 0 else '-0'::float8 end "
        "where ctid = (select min(ctid) from one.metric_summaries)"
    )
    assert changed == "UPDATE 1"
    after = await digest(connection, "one")
    assert {table for table in before if before[table] != after[table]} == {"metric_summaries"}


async def test_these_histories_fill_every_table(postgres_dsn: str, connection: asyncpg.Connection) -> None:
    filled: set[str] = set()
    for seed in range(3):
        await folded(postgres_dsn, connection, random_history(Random(seed), length=150), "filled", None)
        tables = await connection.fetch("select tablename from pg_tables where schemaname = 'filled'")
        for (table,) in tables:
            if await connection.fetchval(f"select count(*) from filled.{table}"):
                filled.add(table)
    assert {table for (table,) in tables} - filled == {"quarantine"}
