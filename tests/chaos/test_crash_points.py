"""A projector killed at every point inside ``apply``: the next one makes of the log what an undisturbed one makes."""

import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import duckdb
import pytest

from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.projection import PostgresProjection
from tests.chaos.faulty_fold import fold, store_at
from tests.chaos.faulty_projector import (
    AFTER_COMMIT,
    BEFORE_COMMIT,
    BEFORE_WRITE,
    COMMIT_UNHEARD,
    DUCKDB_POINTS,
    POSTGRES_POINTS,
)
from tests.chaos.two_stores import POINTS, TwoStores, finish

CRASHES = [("postgres", point) for point in POSTGRES_POINTS] + [("duckdb", point) for point in DUCKDB_POINTS]


def crash(stores: TwoStores, store: str, point: str, nth: int = 2) -> None:
    """Run a projector until it kills itself at a point of its nth batch."""
    victim = stores.projector(store, f"{store}-{point}-{nth}", point, "kill", str(nth))
    victim.start()
    try:
        assert victim.wait() == -signal.SIGKILL, victim.log()
        assert f"fault at {point}" in victim.log()
    finally:
        victim.kill()


def crash_fold(store: str, where: str, point: str, nth: int) -> None:
    """Run a fold without a broker until it kills itself."""
    command = (sys.executable, "-m", "tests.chaos.faulty_fold", point, "kill", str(nth), store, where)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, f"fault at {point}" in done.stderr) == (-signal.SIGKILL, True), done.stderr


@pytest.mark.parametrize("point", [BEFORE_COMMIT, pytest.param(COMMIT_UNHEARD, marks=pytest.mark.slow)])
async def test_a_fold_killed_at_its_commit_goes_on_rightly_in_postgresql(postgres_dsn: str, point: str) -> None:
    crash_fold("postgres", postgres_dsn, point, nth=3)
    assert await fold(PostgresProjection(postgres_dsn)) > 1
    await fold(PostgresProjection(postgres_dsn, "undisturbed"))
    connection = await asyncpg.connect(postgres_dsn)
    try:
        assert await digest(connection) == await digest(connection, "undisturbed")
    finally:
        await connection.close()


async def test_a_fold_killed_at_its_commit_goes_on_rightly_in_duckdb(tmp_path: Path) -> None:
    disturbed, undisturbed = str(tmp_path / "disturbed"), str(tmp_path / "undisturbed")
    crash_fold("duckdb", disturbed, BEFORE_COMMIT, nth=3)
    assert await fold(store_at("duckdb", disturbed)) > 1
    await fold(store_at("duckdb", undisturbed))
    with duckdb.connect(disturbed) as one, duckdb.connect(undisturbed) as other:
        assert table_digests(one) == table_digests(other)


@pytest.mark.slow
@pytest.mark.parametrize(("store", "point"), CRASHES)
async def test_killed_there_nothing_is_lost_or_doubled(
    stores: TwoStores, undisturbed: TwoStores, store: str, point: str
) -> None:
    crash(stores, store, point)
    assert await stores.counted(store) < POINTS, "it was killed on the way"
    crash(stores, store, point, nth=1)  # the first batch after a start is read from the positions that a crash left
    finish(stores.projector(store))
    assert await stores.counted(store) == POINTS
    assert await stores.digests(store) == await undisturbed.digests(store)


@pytest.mark.slow
@pytest.mark.parametrize(("ahead", "behind"), [("postgres", "duckdb"), ("duckdb", "postgres")])
async def test_killed_between_the_two_stores_both_come_to_the_same(
    stores: TwoStores, undisturbed: TwoStores, ahead: str, behind: str
) -> None:
    crash(stores, ahead, AFTER_COMMIT)
    crash(stores, behind, BEFORE_WRITE, nth=1)
    assert await stores.stands(ahead) > await stores.stands(behind) == 0, "one store has batches that the other lacks"
    for store in (ahead, behind):
        finish(stores.projector(store))
        assert await stores.digests(store) == await undisturbed.digests(store)
