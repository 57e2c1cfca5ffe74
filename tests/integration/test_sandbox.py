"""A user's SQL in its child process: what it may do works, and whatever else it tries ends soon, small and clear."""

import asyncio
import hashlib
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import psutil
import pytest

from runtide_queries.sandbox import Limits, Result, Sandbox, Table, read_table, runner
from runtide_schemas.errors import InvalidRequest
from tests.unit.hostile_sql import HOSTILE

A_FEW = [HOSTILE[index] for index in (0, 4, 7, 11, 16, 22, 26, 51, 63, 74, 81)]
LIMITS = Limits(seconds=1.0, memory_bytes=400 * 1024 * 1024, rows=1_000, result_bytes=4 * 1024 * 1024)
PATIENT = replace(LIMITS, seconds=60.0)
"""For what ends by itself: a child has to start first, which takes long on a busy machine."""
SOON_S = 60.0


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sandbox") / "history.duckdb"
    connection = duckdb.connect(str(path))
    connection.execute("CREATE TABLE points (run_id VARCHAR, step BIGINT, value DOUBLE)")
    connection.execute("INSERT INTO points SELECT 'r' || i % 3, i, i / 7.0 FROM range(5000) t(i)")
    connection.execute("CREATE VIEW metrics AS SELECT * FROM points")
    connection.execute("CREATE TABLE runs (run_id VARCHAR, name VARCHAR, started TIMESTAMP)")
    connection.execute("INSERT INTO runs VALUES ('r0', 'first', TIMESTAMP '2026-01-01'), ('r1', NULL, NULL)")
    connection.close()
    return path


async def ask(snapshot: Path, sql: str, limits: Limits = PATIENT) -> Result:
    return await Sandbox(limits).run(sql, snapshot)


async def table(snapshot: Path, sql: str) -> Table:
    return read_table((await ask(snapshot, sql)).arrow)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (
            "SELECT run_id, count(*) AS n FROM metrics GROUP BY run_id ORDER BY run_id",
            (("r0", 1667), ("r1", 1667), ("r2", 1666)),
        ),
        ("WITH best AS (SELECT max(value) AS v FROM main.points) SELECT round(v, 2) FROM best", ((714.14,),)),
        ("FROM runs SELECT name WHERE run_id = 'r1'", ((None,),)),
        ("SELECT sum(n) FROM (VALUES (1), (2)) t(n)", ((3,),)),
        ("WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT max(n) FROM t", ((5,),)),
        ("SELECT list_transform([1, 2], lambda x: x * 2)", (([2, 4],),)),
        ("SELECT row_number() OVER (ORDER BY step) FROM points QUALIFY row_number() OVER (ORDER BY step) = 2", ((2,),)),
        ("SELECT x FROM range(3) t(x) ORDER BY x DESC LIMIT 1", ((2,),)),
        ("SELECT date_trunc('year', started)::VARCHAR FROM runs WHERE run_id = 'r0'", (("2026-01-01 00:00:00",),)),
        ("SELECT CASE WHEN 'a' LIKE 'A' THEN 1 ELSE 2 END, 'x' IN ('x', 'y'), 5 BETWEEN 1 AND 9", ((2, True, True),)),
        ("SELECT value -> 'a' FROM (SELECT '{\"a\": 1}'::JSON AS value)", (("1",),)),
    ],
)
async def test_questions_are_answered(snapshot: Path, sql: str, rows: tuple[tuple[object, ...], ...]) -> None:
    assert (await table(snapshot, sql)).rows == rows


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "DESCRIBE runs", "SUMMARIZE runs", "EXPLAIN SELECT 1", "explain analyze SELECT * FROM runs"]
)
async def test_a_user_can_look_around(snapshot: Path, sql: str) -> None:
    assert len((await table(snapshot, sql)).rows) >= 1


async def test_types_and_names_come_with_the_rows(snapshot: Path) -> None:
    found = await table(snapshot, "SELECT step AS s, value FROM points WHERE step = 7")
    assert (found.columns, found.types, found.rows) == (("s", "value"), ("int64", "double"), ((7, 1.0),))


async def test_rows_and_bytes_are_capped_and_said_to_be(snapshot: Path) -> None:
    many = await ask(snapshot, "SELECT * FROM points")
    assert (many.rows, many.truncated) == (1_000, True)
    wide = await ask(snapshot, "SELECT repeat('x', 500000) AS x FROM range(100)")
    assert wide.truncated
    assert 1 <= wide.rows <= 8
    assert len(wide.arrow) < 2 * LIMITS.result_bytes
    exact = await ask(snapshot, "SELECT * FROM points LIMIT 1000")
    assert (exact.rows, exact.truncated) == (1_000, False)


@pytest.mark.parametrize("sql", A_FEW, ids=lambda sql: sql[:60])
async def test_what_is_no_question_is_refused(snapshot: Path, sql: str) -> None:
    await _refused(snapshot, sql)


@pytest.mark.slow
@pytest.mark.parametrize("sql", HOSTILE, ids=lambda sql: sql[:60])
async def test_nothing_hostile_passes(snapshot: Path, sql: str) -> None:
    await _refused(snapshot, sql)


async def _refused(snapshot: Path, sql: str) -> None:
    before = _digest(snapshot)
    started = time.monotonic()
    with pytest.raises(InvalidRequest) as caught:
        await ask(snapshot, sql, LIMITS)
    assert time.monotonic() - started < SOON_S
    message = str(caught.value)
    assert message.startswith(("SQL refused: ", "SQL failed: ", "SQL stopped: "))
    assert str(snapshot.parent) not in message
    assert "root:" not in message
    assert _digest(snapshot) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 3000000000)",
        "SELECT length(repeat('x', 3000000000))",
        "SELECT list(i) FROM generate_series(1, 1000000000000) t(i)",
        "SELECT sum(i) FROM generate_series(1, 1000000000000) t(i)",
        "SELECT generate_series(1, 1000000000000)",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT count(*) FROM points a, points b, points c, points d",
        "SELECT count(DISTINCT a.value * b.value) FROM points a, points b",
        "SELECT string_agg(repeat('x', 100000), ',') FROM range(100000)",
        "SELECT md5(repeat('x', 900000000)) FROM range(1000)",
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT * FROM points a, points b ORDER BY a.value * b.value, a.step",
    ],
)
async def test_what_eats_memory_or_time_is_ended(snapshot: Path, sql: str) -> None:
    started = time.monotonic()
    largest = 0
    asking = asyncio.create_task(ask(snapshot, sql, LIMITS))
    while not asking.done():
        largest = max([largest, *(_memory(child) for child in psutil.Process().children(recursive=True))])
        await asyncio.sleep(0.02)
    with pytest.raises(InvalidRequest) as caught:
        await asking
    assert time.monotonic() - started < SOON_S
    assert str(caught.value).startswith(("SQL stopped: ", "SQL failed: "))
    assert largest < LIMITS.memory_bytes + 250 * 1024 * 1024


async def test_a_cancelled_question_leaves_no_process(snapshot: Path) -> None:
    asking = asyncio.create_task(ask(snapshot, "SELECT count(*) FROM points a, points b, points c"))
    children = await _started()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not [child for child in children if _lives(child)]


async def test_the_child_sees_nothing_of_our_environment(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIDE_GATEWAY_DSN", "postgresql://user:secret@host/db")
    asking = asyncio.create_task(ask(snapshot, "SELECT count(*) FROM points a, points b, points c"))
    children = await _started()
    environment = children[0].environ()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not [name for name in environment if name.startswith("RUNTIDE")]


async def test_statements_beyond_the_concurrent_ones_wait_their_turn(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_QUEUE_S", 60.0)
    sandbox = Sandbox(PATIENT, concurrent=1)
    results = await asyncio.gather(*(sandbox.run(f"SELECT {number}", snapshot) for number in range(4)))
    assert [read_table(result.arrow).rows for result in results] == [((number,),) for number in range(4)]


async def test_a_missing_snapshot_is_told_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await ask(tmp_path / "absent.duckdb", "SELECT 1")
    assert str(tmp_path) not in str(caught.value)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


async def _started() -> list[psutil.Process]:
    async with asyncio.timeout(60):
        while not (children := _sandboxes()):  # noqa: ASYNC110 - another process starts, there is no event to wait for
            await asyncio.sleep(0.01)
    return children


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sandboxes() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if any("sandbox.child" in part for part in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found
