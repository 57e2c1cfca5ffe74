"""Selective searches come from indexes: plans that PostgreSQL makes for enough rows, with statistics."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from runtide_queries.search import ModelVersionSearch, RunSearch, model_versions, runs
from runtide_queries.search import compile as compiling
from runtide_queries.search.compile import FEW, Query
from tests.integration.search_store import prepare
from tests.postgres import PostgresServer

RUNS = 8_000
_ROWS = f"FROM generate_series(1, {RUNS}) i"
_RUN = "md5(i::text), 'run ' || i, (i % 2)::text, '', '', '', '', '', '', '', 'FINISHED', i, null, '', '', 'active', true, 'FINISHED'"
FILL = (
    f"INSERT INTO runs SELECT {_RUN}, 0, 0, null, null, '' {_ROWS}",
    f"INSERT INTO params SELECT md5(i::text), 'k' || k, i % 800 {_ROWS}, generate_series(0, 1) k",
    f"INSERT INTO tags SELECT md5(i::text), 'k' || k, i % 800 {_ROWS}, generate_series(0, 1) k",
    f"INSERT INTO params SELECT md5(i::text), 'common', 'c' || i % 2 {_ROWS}",
    f"INSERT INTO tags SELECT md5(i::text), 'common', 'c' || i / 2 % 2 {_ROWS}",
    f"INSERT INTO metric_summaries SELECT md5(i::text), 'm' || k, i, 1, 1, i, 1, 1, i, i, 1, 0 {_ROWS}, generate_series(0, 1) k",
    f"INSERT INTO inputs SELECT md5(i::text), 'data ' || i % 800, 'd', '', '', '', '', '{{}}' {_ROWS}",
    f"INSERT INTO model_versions SELECT 'model ' || i % 100, i, '', md5(i::text), '', '', '{{}}', '', 'None', i, i, false {_ROWS}",
    "ANALYZE",
)
TABLES = ("runs", "params", "tags", "metric_summaries", "inputs", "model_versions")


@pytest.fixture(scope="session")
def filled(postgres_server: PostgresServer) -> str:
    async def fill(dsn: str) -> None:
        await prepare(dsn)
        store = await asyncpg.connect(dsn)
        await store.execute("SET search_path = runtide")
        for statement in FILL:
            await store.execute(statement)
        await store.close()

    return postgres_server.create_template("search_plans", fill)


@pytest.fixture
async def store(postgres_server: PostgresServer, filled: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_server.dsn(filled), server_settings={"search_path": "runtide"})
    yield connection
    await connection.close()


async def plan(store: Any, query: Query, name: str) -> str:
    """Return how the page is found: the part of the plan that the statement's first half makes, and the rest."""
    text = query.text("search", name, 101, runs.brought())
    return "\n".join(row[0] for row in await store.fetch(f"EXPLAIN {text}", *query.arguments))


INDEXES = {
    "params.k0 = '7'": ("params_by_value", "runs_pkey"),
    "tags.k1 = '7'": ("tags_by_value", "runs_pkey"),
    "tags.k1 = '7' AND params.k0 = '7' AND metrics.m0 > 4": ("tags_by_value", "runs_pkey"),
    "metrics.m1 < 5": ("metric_summaries_by_value", "runs_pkey"),
    "metrics.m1 >= 100 AND metrics.m1 < 120 AND params.k0 != '3'": ("metric_summaries_by_value", "runs_pkey"),
    "dataset.name = 'data 7'": ("inputs_by_name", "runs_pkey"),
    "run_id = 'a'": ("runs_pkey",),
    "run_id IN ('a', 'b')": ("runs_pkey",),
}


@pytest.mark.parametrize("text", INDEXES)
@pytest.mark.parametrize("order_by", [(), ("metrics.m0 DESC",), ("params.k1",)])
async def test_a_selective_filter_is_answered_from_indexes(store: Any, text: str, order_by: tuple[str, ...]) -> None:
    found = await plan(store, runs.compile_search(RunSearch(filter=text, order_by=order_by)), "search_runs")
    assert [index for index in INDEXES[text] if index not in found] == [], found
    assert [table for table in TABLES if f"Seq Scan on {table}" in found] == [], found


async def test_the_newest_runs_of_an_experiment_are_read_in_the_order_of_an_index(store: Any) -> None:
    for search in (RunSearch(experiment_ids=("1",)), RunSearch(experiment_ids=("1",), filter="params.k0 != '3'")):
        found = await plan(store, runs.compile_search(search), "search_runs")
        assert "runs_by_experiment" in found
        assert [table for table in TABLES if f"Seq Scan on {table}" in found] == [], found
        assert "Sort Key: r." not in found


async def test_the_versions_of_a_run_are_read_from_an_index(store: Any) -> None:
    found = await plan(
        store, model_versions.compile_search(ModelVersionSearch(filter="run_id = 'a'")), "search_model_versions"
    )
    assert "model_versions_by_run" in found
    assert "Seq Scan on model_versions" not in found


@pytest.mark.parametrize("term", ["metrics.m0", "metrics.m0 DESC"])
@pytest.mark.parametrize("text", ["", "tags.k0 != '9'", "params.k0 != '3'"])
async def test_an_order_by_a_metric_is_read_in_the_order_of_its_index_and_no_further_than_the_page(
    store: Any, text: str, term: str
) -> None:
    query = runs.compile_search(RunSearch(experiment_ids=("1",), filter=text, order_by=(term,)))
    statement = query.text("search", "search_runs", 11, runs.brought())
    ((told,),) = await store.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *query.arguments)
    nodes = list(_nodes(json.loads(told)[0]["Plan"]))
    (front,) = [node for node in nodes if node.get("Subplan Name") == "CTE front"]
    read = [node for node in _nodes(front) if node.get("Index Name") == "metric_summaries_by_value"]
    assert [node["Actual Rows"] < 100 for node in read] == [True], told
    others = [node for node in nodes if node.get("Parent Relationship") == "Member" and node["Node Type"] == "Limit"]
    assert [node["Actual Rows"] for node in others] == [0], told
    assert {node["Actual Loops"] for other in others for node in _nodes(other) if node["Node Type"] == "Sort"} == {0}, (
        told
    )


async def analysed(store: Any, search: RunSearch) -> list[dict[str, Any]]:
    """Return the nodes of a page's plan with what each of them really did."""
    query = runs.compile_search(search)
    text = query.text("search", "search_runs", 11, runs.brought())
    ((told,),) = await store.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *query.arguments)
    return list(_nodes(json.loads(told)[0]["Plan"]))


def most_read(nodes: list[dict[str, Any]]) -> float:
    """Return the most rows that a node came to; a bitmap of an index is no rows, but where they lie."""
    read = (node["Actual Rows"] * node["Actual Loops"] for node in nodes if node["Node Type"] != "Bitmap Index Scan")
    return max(map(float, read))


RARE = "params.k0 = '7'"
COMMON = ("tags.common = 'c1'", "params.common = 'c1'")


@pytest.mark.parametrize("order_by", [(), ("metrics.m0 DESC",), ("params.k1",)])
@pytest.mark.parametrize("filters", [(RARE, COMMON[0]), (COMMON[0], RARE), (*COMMON, "metrics.m0 > 4", RARE)])
async def test_of_several_exact_values_a_rare_one_is_begun_with(
    store: Any, filters: tuple[str, ...], order_by: tuple[str, ...]
) -> None:
    nodes = await analysed(store, RunSearch(experiment_ids=("1",), filter=" AND ".join(filters), order_by=order_by))
    assert most_read(nodes) <= FEW + 1, nodes
    assert "runs_by_experiment" not in [node.get("Index Name") for node in nodes if node["Actual Loops"]]


@pytest.mark.parametrize(("filters", "rare"), [(COMMON, False), ((RARE, COMMON[0]), True)])
async def test_a_page_is_looked_for_among_few_only_where_few_have_one_of_the_values(
    store: Any, filters: tuple[str, ...], rare: bool
) -> None:
    nodes = await analysed(store, RunSearch(experiment_ids=("1",), filter=" AND ".join(filters)))
    among = [node["Actual Loops"] > 0 for node in nodes if "= ANY" in node.get("Index Cond", "")]
    assert set(among) == {rare}, among


class Ask:
    def __init__(self, store: Any) -> None:
        self._store = store

    async def fetch(self, text: str, arguments: Sequence[Any]) -> list[Any]:
        """As the gateway's ``Postgres`` has it."""
        found: list[Any] = await self._store.fetch(text, *arguments)
        return found


@pytest.mark.parametrize("order_by", [(), ("metrics.m0 DESC",), ("params.k1", "tags.k0 DESC")])
@pytest.mark.parametrize("text", [f"{RARE} AND {COMMON[0]}", f"{COMMON[0]} AND {COMMON[1]} AND metrics.m0 < 60"])
async def test_pages_are_the_same_however_few_are_few(
    store: Any, text: str, order_by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pages() -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            search = RunSearch(filter=text, order_by=order_by, page_size=3, page_token=token)
            page = await runs.search_runs(Ask(store), search)
            found += [run.info.run_id for run in page.runs]
            if not (token := page.next_page_token):
                return found

    expected = await pages()
    assert len(expected) > 3
    for few in (0, 4, RUNS):
        monkeypatch.setattr(compiling, "FEW", few)
        assert await pages() == expected


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
