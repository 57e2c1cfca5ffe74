"""Two projectors over one store at once, one of them a zombie: stopped inside ``apply`` and continued later."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.projection import PostgresProjection
from tests.chaos.faulty_fold import fold
from tests.chaos.faulty_projector import AFTER_COMMIT, AFTER_WRITE, BEFORE_COMMIT, BEFORE_WRITE, COMMIT_UNHEARD
from tests.chaos.two_stores import DEADLINE_S, POINTS, TwoStores, finish, wait_for
from tests.integration.postgres_stack import eventually
from tests.integration.service_processes import Service, started

LOCK_WAITS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
END_IDLE = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() "
    "and state = 'idle in transaction'"
)


@contextmanager
def stopped_at(stores: TwoStores, store: str, point: str) -> Iterator[Service]:
    """A projector that has stopped itself at a point of its second batch."""
    with started(stores.projector(store, f"{store}-zombie", point, "stop", "2")) as zombie:
        wait_for(lambda: _is_stopped(zombie.pid), f"the projector to stop at {point}")
        yield zombie


@contextmanager
def stopped_fold(dsn: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A fold without a broker that has stopped itself before its second commit."""
    command = (sys.executable, "-m", "tests.chaos.faulty_fold", BEFORE_COMMIT, "stop", "2", "postgres", dsn)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as zombie:
        try:
            wait_for(lambda: _is_stopped(zombie.pid), "the fold to stop")
            yield zombie
        finally:
            zombie.kill()


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def _asked(dsn: str, statement: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(statement))
    finally:
        await connection.close()


async def _waits(dsn: str) -> bool:
    return await _asked(dsn, LOCK_WAITS) > 0


async def _is_exact(stores: TwoStores, undisturbed: TwoStores, store: str) -> None:
    assert await stores.counted(store) == POINTS
    assert await stores.digests(store) == await undisturbed.digests(store)


async def test_a_fold_that_was_stopped_at_its_commit_writes_nothing_when_it_goes_on(postgres_dsn: str) -> None:
    with stopped_fold(postgres_dsn) as zombie:
        assert await _asked(postgres_dsn, END_IDLE) == 1
        assert await fold(PostgresProjection(postgres_dsn)) > 1
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait(DEADLINE_S) != 0
    await fold(PostgresProjection(postgres_dsn, "undisturbed"))
    connection = await asyncpg.connect(postgres_dsn)
    try:
        assert await digest(connection) == await digest(connection, "undisturbed")
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", [BEFORE_WRITE, COMMIT_UNHEARD, AFTER_COMMIT])
async def test_a_zombie_outside_of_a_transaction_is_fenced(
    stores: TwoStores, undisturbed: TwoStores, point: str
) -> None:
    with stopped_at(stores, "postgres", point) as zombie:
        finish(stores.projector("postgres"))
        os.kill(zombie.pid, signal.SIGCONT)
        assert zombie.wait() == 3
        assert "another projector has taken over" in zombie.log()
    await _is_exact(stores, undisturbed, "postgres")


@pytest.mark.slow
@pytest.mark.parametrize("point", [AFTER_WRITE, BEFORE_COMMIT])
async def test_a_zombie_inside_of_a_transaction_commits_it_before_it_is_fenced(
    stores: TwoStores, undisturbed: TwoStores, point: str
) -> None:
    with stopped_at(stores, "postgres", point) as zombie, started(stores.projector("postgres")) as other:
        await eventually(lambda: _waits(stores.dsn), "the other one to wait for the zombie")
        os.kill(zombie.pid, signal.SIGCONT)
        other.ready()
        assert zombie.wait() == 3
        assert other.stop() == 0
    await _is_exact(stores, undisturbed, "postgres")


@pytest.mark.slow
@pytest.mark.parametrize("point", [BEFORE_COMMIT, AFTER_WRITE])
async def test_a_zombie_whose_transaction_was_ended_writes_nothing_more(
    stores: TwoStores, undisturbed: TwoStores, point: str
) -> None:
    """PostgreSQL ends such a transaction by itself after a while: idle_in_transaction_session_timeout."""
    with stopped_at(stores, "postgres", point) as zombie:
        assert await _asked(stores.dsn, END_IDLE) == 1
        finish(stores.projector("postgres"))
        os.kill(zombie.pid, signal.SIGCONT)
        assert zombie.wait() == 3
        assert "another projector has taken over" in zombie.log()
    await _is_exact(stores, undisturbed, "postgres")


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_zombie_holds_up_its_successor_for_two_minutes_at_most(
    stores: TwoStores, undisturbed: TwoStores
) -> None:
    with stopped_at(stores, "postgres", BEFORE_COMMIT) as zombie, started(stores.projector("postgres")) as other:
        wait_for(lambda: "trying again" in other.log(), "the successor to give up a first wait")
        wait_for(lambda: " reads " in other.log(), "PostgreSQL to end the zombie's transaction", 200)
        other.ready()
        assert other.stop() == 0
        os.kill(zombie.pid, signal.SIGCONT)
        assert zombie.wait() == 3
    await _is_exact(stores, undisturbed, "postgres")


@pytest.mark.slow
@pytest.mark.parametrize("point", [BEFORE_WRITE, AFTER_WRITE, BEFORE_COMMIT, AFTER_COMMIT])
async def test_a_zombie_keeps_the_duckdb_file_and_goes_on(
    stores: TwoStores, undisturbed: TwoStores, point: str
) -> None:
    with stopped_at(stores, "duckdb", point) as zombie:
        with started(stores.projector("duckdb")) as second:
            assert second.wait() == 3
            assert "in use by another process" in second.log()
        os.kill(zombie.pid, signal.SIGCONT)
        zombie.ready()
        assert zombie.stop() == 0
    await _is_exact(stores, undisturbed, "duckdb")
