"""The search for runs and every statement on real PostgreSQL, in the layout that the projector makes."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import asyncpg
import pytest

from runtide_consumers.postgres.projection import PostgresProjection
from runtide_queries.commands.run_state import MOST_PARAMS
from runtide_queries.history import History
from runtide_queries.operations import get_positions
from runtide_queries.postgres import Postgres
from runtide_queries.quarantine import list_quarantine, quarantines
from runtide_queries.run_states import get_whole_run_state
from runtide_queries.runs import get_run
from runtide_queries.search import RunSearch, search_runs
from runtide_queries.search.runs import brought, compile_search
from runtide_queries.statements import load
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from tests.postgres import PostgresServer

RUN = """
INSERT INTO runtide.runs VALUES
    ($1, $2, $3, '', '', '', '', '', '', '', $4::text, $5, null, '', '', $6, true, $4::text, 0, 0, null, null, '')
"""
METRIC = "INSERT INTO runtide.metric_summaries VALUES ($1, $2, $3, 1, 1, $3, 1, 1, $3, $3, 1, 0)"
PARAM = "INSERT INTO runtide.params VALUES ($1, $2, $3)"


@pytest.fixture(scope="session")
def layout(postgres_server: PostgresServer) -> str:
    async def prepare(dsn: str) -> None:
        projection = PostgresProjection(dsn)
        await projection.open()
        await projection.close()

    return postgres_server.create_template("gateway_search", prepare)


@pytest.fixture
def dsn(postgres_server: PostgresServer, layout: str) -> Iterator[str]:
    with postgres_server.database(template=layout) as dsn:
        yield dsn


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[Postgres]:
    async with Postgres(dsn) as postgres:
        yield postgres


async def add(store: Any, run_id: str, *, start: int | None = 0, loss: float | None = None, **given: Any) -> None:
    """Add a run with a metric and params."""
    about = {"name": f"run {run_id}", "experiment": "0", "status": "FINISHED", "stage": "active"} | given
    await store.execute(RUN, run_id, about["name"], about["experiment"], about["status"], start, about["stage"])
    if loss is not None:
        await store.execute(METRIC, run_id, "loss", loss)
    for key, value in about.get("params", {}).items():
        await store.execute(PARAM, run_id, key, value)


async def found(postgres: Postgres, **asked: Any) -> list[str]:
    """Return the ids of all pages of a search."""
    ids: list[str] = []
    token = ""
    while True:
        page = await search_runs(postgres, RunSearch(**{"page_size": 3, **asked, "page_token": token}))
        ids += [run.info.run_id for run in page.runs]
        token = page.next_page_token
        if not token:
            return ids
        assert len(page.runs) == asked.get("page_size", 3)


@pytest.mark.parametrize("file", ["experiments", "runs", "models", "deployments", "operations", "search"])
async def test_every_statement_can_be_prepared(store: Any, file: str) -> None:
    await store.execute("SET search_path = runtide")
    for statement in load(file).values():
        if "/*" not in statement.text:
            prepared = await store.prepare(statement.positional)
            assert len(prepared.get_parameters()) == len(statement.parameters)


async def test_filters_hold_what_they_say(store: Any, postgres: Postgres) -> None:
    await add(store, "a", start=1, loss=0.1, params={"lr": "0.1", "net": "cnn"}, name="Alpha")
    await add(store, "b", start=2, loss=0.5, params={"lr": "0.2"}, status="RUNNING", name="beta_1")
    await add(store, "c", start=3, loss=math.nan, params={"lr": "0.1"}, experiment="7")
    await add(store, "d", start=4, loss=math.inf, stage="deleted")
    await add(store, "e", start=None)
    expected = {
        "metrics.loss < 1": ["b", "a"],
        "metrics.loss > 0.2": ["b"],
        "metrics.loss != 0.1": ["c", "b"],
        "metrics.loss = 0.1": ["a"],
        "metrics.nothing < 1": [],
        "params.lr = '0.1'": ["c", "a"],
        "params.lr != '0.1'": ["b"],
        "params.net LIKE 'c%'": ["a"],
        "params.net LIKE 'C%'": [],
        "params.net ILIKE 'C%'": ["a"],
        "params.lr = '0.1' AND metrics.loss < 1": ["a"],
        "status = 'RUNNING'": ["b"],
        "start_time >= 2": ["c", "b"],
        "start_time > 1.5 AND start_time < 2.5": ["b"],
        "run_name = 'Alpha'": ["a"],
        "run_id = 'e'": ["e"],
        "experiment_id = '7'": ["c"],
        "params.lr = 'x'' OR 1=1 --'": [],
        "NOT start_time > 1": ["a", "e"],
        "NOT (start_time > 1 AND run_name = 'beta_1')": ["c", "a", "e"],
        "NOT params.lr = '0.1'": ["b", "e"],
        "metrics.loss = 0.1 OR status = 'RUNNING' AND params.lr = '0.2'": ["b", "a"],
        "params.net IS NULL": ["c", "b", "e"],
        "params.net IS NOT NULL": ["a"],
        "NOT metrics.loss < 1": ["c", "e"],
    }
    assert {text: await found(postgres, filter=text) for text in expected} == expected
    assert await found(postgres) == ["c", "b", "a", "e"]
    assert await found(postgres, lifecycle="all") == ["d", "c", "b", "a", "e"]
    assert await found(postgres, lifecycle="deleted") == ["d"]
    assert await found(postgres, name="ALPH") == ["a"]
    assert await found(postgres, name="eta%1") == ["b"]
    assert await found(postgres, status="RUNNING") == ["b"]
    assert await found(postgres, experiment_ids=("7", "8")) == ["c"]
    assert await found(postgres, id_prefix="a") == ["a"]
    assert await found(postgres, id_prefix="%") == []


async def test_missing_values_come_last_in_both_directions_and_nan_before_them(store: Any, postgres: Postgres) -> None:
    for run_id, loss in {
        "a": 0.5,
        "b": math.nan,
        "c": -math.inf,
        "d": None,
        "e": 2.0,
        "f": math.inf,
        "g": None,
    }.items():
        await add(store, run_id, loss=loss)
    for size in (1, 2, 3, 100):
        assert await found(postgres, order_by=("metrics.loss",), page_size=size) == ["c", "a", "e", "f", "b", "d", "g"]
        assert await found(postgres, order_by=("metrics.loss DESC",), page_size=size) == [
            "f",
            "e",
            "a",
            "c",
            "b",
            "d",
            "g",
        ]


async def test_several_terms_apply_in_turn(store: Any, postgres: Postgres) -> None:
    for index, (net, loss) in enumerate([("cnn", 1.0), ("mlp", 1.0), ("cnn", 2.0), (None, 0.0)]):
        await add(store, f"r{index}", start=index, loss=loss, params={"net": net} if net else {})
    assert await found(postgres, order_by=("params.net DESC", "metrics.loss")) == ["r1", "r0", "r2", "r3"]
    assert await found(postgres, order_by=("metrics.loss", "params.net")) == ["r3", "r0", "r1", "r2"]
    assert await found(postgres, order_by=("start_time",)) == ["r0", "r1", "r2", "r3"]
    await add(store, "r4", start=None)
    for size in (1, 2, 9):
        assert await found(postgres, order_by=("start_time",), page_size=size) == ["r0", "r1", "r2", "r3", "r4"]
        assert await found(postgres, page_size=size) == ["r3", "r2", "r1", "r0", "r4"]
        assert await found(postgres, order_by=("params.net DESC",), page_size=size) == ["r1", "r2", "r0", "r3", "r4"]


@pytest.mark.parametrize("seed", range(3))
async def test_pages_hold_each_run_once_while_runs_arrive(store: Any, postgres: Postgres, seed: int) -> None:
    random = Random(seed)
    old = [f"old{number:03d}" for number in range(60)]
    for run_id in old:
        loss = random.choice([None, math.nan, *(random.randint(0, 4) / 2 for _ in range(3))])
        await add(store, run_id, start=random.choice([None, random.randint(0, 5)]), loss=loss)
    for order in ((), ("metrics.loss DESC",), ("name",), ("start_time", "metrics.loss")):
        whole = [run for run in await found(postgres, order_by=order, page_size=1000) if run in set(old)]
        seen: list[str] = []
        token = ""
        while True:
            page = await search_runs(postgres, RunSearch(order_by=order, page_size=7, page_token=token))
            seen += [run.info.run_id for run in page.runs if run.info.run_id.startswith("old")]
            token = page.next_page_token
            if not token:
                break
            await add(store, f"new{random.random()}", start=random.randint(0, 9), loss=random.random())
        assert seen == whole


async def test_a_page_brings_params_tags_and_metrics(store: Any, postgres: Postgres) -> None:
    await add(store, "a", loss=math.nan, params={"z": "1", "a": ""})
    await store.execute("INSERT INTO runtide.tags VALUES ('a', 'k', 'v')")
    (run,) = (await search_runs(postgres, RunSearch())).runs
    assert (run.params, run.tags, run.info.experiment_name) == ({"a": "", "z": "1"}, {"k": "v"}, "Default")
    assert math.isnan(run.metrics["loss"].last_value)
    assert run == (await get_run(postgres, "a")).run or math.isnan(run.metrics["loss"].last_value)


async def test_a_run_that_is_written_to_comes_with_its_params_unless_they_are_too_many(
    store: Any, postgres: Postgres
) -> None:
    await add(store, "a", params={"z": "1", "a": ""})
    await add(store, "b")
    assert (await get_whole_run_state(postgres, "a")).params == {"a": "", "z": "1"}
    await store.executemany(PARAM, [("b", f"p{number}", "1") for number in range(MOST_PARAMS)])
    assert len((await get_whole_run_state(postgres, "b")).params or {}) == MOST_PARAMS
    await store.execute(PARAM, "b", "one more", "1")
    assert (await get_whole_run_state(postgres, "b")).params is None
    with pytest.raises(NotFound):
        await get_whole_run_state(postgres, "c")


async def test_a_token_of_another_search_is_refused(store: Any, postgres: Postgres) -> None:
    for run_id in "abc":
        await add(store, run_id)
    token = (await search_runs(postgres, RunSearch(page_size=1))).next_page_token
    with pytest.raises(InvalidRequest, match="another query"):
        await search_runs(postgres, RunSearch(page_size=1, page_token=token, filter="status = 'FINISHED'"))
    for size in (0, -1, 50_001):
        with pytest.raises(InvalidRequest):
            await search_runs(postgres, RunSearch(page_size=size))


@pytest.mark.parametrize(
    "asked",
    [
        {"filter": "params.a = '\x00'"},
        {"filter": "params.a = '\ud800'"},
        {"filter": "params.a LIKE '\\'"},
        {"name": "\x00"},
        {"experiment_ids": ("\x00",)},
        {"filter": "start_time > 1e400"},
        {"filter": "metrics.a > " + "9" * 400},
    ],
)
async def test_values_that_no_column_holds_are_refused_or_find_nothing(
    postgres: Postgres, asked: dict[str, Any]
) -> None:
    try:
        assert await found(postgres, **asked) == []
    except InvalidRequest as error:
        assert str(error)


async def test_what_a_page_brings_comes_from_indexes(store: Any) -> None:
    await store.execute("SET search_path = runtide")
    await store.execute(
        "INSERT INTO runs SELECT md5(i::text), '', (i % 50)::text, '', '', '', '', '', '', '', 'FINISHED', i, null, '', '', "
        "'active', true, 'FINISHED', 0, 0, null, null, '' FROM generate_series(1, 20000) i"
    )
    for table in ("params", "tags"):
        await store.execute(f"INSERT INTO {table} SELECT md5(i::text), 'k', 'v' FROM generate_series(1, 20000) i")
    await store.execute(
        "INSERT INTO metric_summaries SELECT md5(i::text), 'loss', i, 1, 1, i, 1, 1, i, i, 1, 0 FROM generate_series(1, 20000) i"
    )
    await store.execute("ANALYZE")
    query = compile_search(RunSearch(order_by=("metrics.loss",)))
    text = query.text("search", "search_runs", 101, brought())
    plan = "\n".join(row[0] for row in await store.fetch(f"EXPLAIN {text}", *query.arguments))
    for index in ("params_pkey", "tags_pkey", "metric_summaries_pkey"):
        assert index in plan


async def test_an_unknown_run_is_told_with_what_to_do(postgres: Postgres) -> None:
    with pytest.raises(NotFound, match="runtide sync"):
        await get_run(postgres, "nope")


async def test_sessions_cannot_write(postgres: Postgres) -> None:
    with pytest.raises(TransientError, match="read-only"):
        await postgres.fetch("DELETE FROM runs", [])


async def test_what_is_not_there_yet_is_told_so(postgres_dsn: str) -> None:
    async with Postgres(postgres_dsn) as empty:
        with pytest.raises(TransientError, match=r"runtide_consumers\.postgres"):
            await search_runs(empty, RunSearch())
    async with Postgres("postgresql://127.0.0.1:1/none") as absent:
        with pytest.raises(TransientError, match="away"):
            await get_positions(absent)


async def test_a_slow_statement_ends_in_time(dsn: str) -> None:
    async with Postgres(dsn, timeout_s=0.3) as postgres:
        with pytest.raises(TransientError):
            await asyncio.wait_for(postgres.fetch("SELECT pg_sleep(600)", []), 60)
        positions: Any = None
        async with asyncio.timeout(60):
            while positions is None:  # 0.3 s are few on a busy machine for any statement
                with contextlib.suppress(TransientError):
                    positions = await get_positions(postgres)
        assert positions == {}


async def test_quarantine_is_paged_in_log_order(store: Any, postgres: Postgres) -> None:
    for topic, partition, offset in [("b", 0, 1), ("a", 1, 5), ("a", 1, 40), ("a", 0, 9)]:
        await store.execute(
            "INSERT INTO runtide.quarantine VALUES ($1, $2, $3, $4, 'undecodable', 'why', null, $5, '', 1)", topic, partition, offset,
            f"run{offset}", b"abc",
        )  # fmt: skip
    known = {"postgres": quarantines(postgres, History("http://127.0.0.1:1", ""))["postgres"]}
    seen: list[tuple[str, int, int]] = []
    token = ""
    while True:
        page = await list_quarantine(known, page_size=1, page_token=token)
        seen += [(event.topic, event.partition, event.record_offset) for event in page.events]
        token = page.next_page_token
        if not token:
            break
    assert seen == [("a", 0, 9), ("a", 1, 5), ("a", 1, 40), ("b", 0, 1)]
    assert page.counts == {"postgres": {"undecodable": 4}}
    (one,) = (await list_quarantine(known, entity="run40")).events
    assert (one.record_offset, one.value_bytes, one.reason) == (40, 3, "why")
