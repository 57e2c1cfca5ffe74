"""Searches over many runs, beside MLflow's own store on the same PostgreSQL with the same runs, in turns; ours also through HTTP.

`RUNTIDE_TEST_MLFLOW_PYTHON` names an interpreter with the full mlflow and psycopg2; without one only ours is measured.
`RUNTIDE_BENCHMARK_RUNS` runs (100,000), each with 20 metrics, 20 params and 3 tags.
"""

import asyncio
import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest

from runtide.kafka import KafkaSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_queries.postgres import Postgres
from runtide_queries.search import RunSearch, search_runs
from tests.benchmarks.http_load import Connection, post
from tests.benchmarks.search import filling
from tests.integration.gateway_stack import running_gateway_stack
from tests.integration.service_processes import with_topics
from tests.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PYTHON = os.environ.get("RUNTIDE_TEST_MLFLOW_PYTHON", "")
RUNS = int(os.environ.get("RUNTIDE_BENCHMARK_RUNS", "100000"))
TURNS = int(os.environ.get("RUNTIDE_BENCHMARK_ROUNDS", "7"))
QUESTIONS: dict[str, tuple[str, list[str]]] = {
    "a metric's filter (10 % of the runs), by another metric": ("metrics.m0 < 0.1", ["metrics.m1 DESC"]),
    "a metric's filter (0.1 %), by another metric": ("metrics.m0 < 0.001", ["metrics.m1 DESC"]),
    "all, by a metric": ("", ["metrics.m1"]),
    "a param and a tag (15 runs)": ("params.p0 = '7' AND tags.team = 'team3'", []),
    "a param (10 %), the newest": ("params.p3 = '4'", []),
    "all, the newest": ("", []),
}

INDEXES = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make
FROM pg_constraint
WHERE conrelid = ANY ($1::text[]::regclass[]) AND contype IN ('p', 'f', 'u')
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index i
WHERE indrelid = ANY ($1::text[]::regclass[])
    AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid AND contype IN ('p', 'u'))
"""


class Searcher(Protocol):
    """One page of a search: the seconds it took, the ids, the token of the next."""

    async def page(self, text: str, order_by: list[str], token: str) -> tuple[float, list[str], str]: ...


class Ours:
    """Runtide's search."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def page(self, text: str, order_by: list[str], token: str) -> tuple[float, list[str], str]:
        search = RunSearch(
            experiment_ids=("1",), filter=text, order_by=tuple(order_by), page_size=100, page_token=token
        )
        begun = time.perf_counter()
        found = await search_runs(self._postgres, search)
        return time.perf_counter() - begun, [run.info.run_id for run in found.runs], found.next_page_token


class Gateways:
    """Our search through the gateway, by MLflow's API, until the last byte of the answer."""

    def __init__(self, address: str) -> None:
        self._connection = Connection(address)

    async def page(self, text: str, order_by: list[str], token: str) -> tuple[float, list[str], str]:
        asked = {"experiment_ids": ["1"], "filter": text, "order_by": order_by, "max_results": 100, "page_token": token}
        request = post("runs/search", asked)
        begun = time.perf_counter()
        answered = self._connection.call(request)
        took = time.perf_counter() - begun
        found = json.loads(answered.partition(b"\r\n\r\n")[2])
        return took, [run["info"]["run_id"] for run in found.get("runs", ())], found.get("next_page_token", "")


class Mlflows:
    """MLflow's store in its own process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    async def page(self, text: str, order_by: list[str], token: str) -> tuple[float, list[str], str]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"filter": text, "order_by": order_by, "token": token}) + "\n")
        self._process.stdin.flush()
        told = json.loads(answer(self._process, "TOLD"))
        return told["took"], told["ids"], told["token"]


def answer(process: "subprocess.Popen[str]", mark: str) -> str:
    """Return what follows the mark in the next line that has it."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(mark):
            return line.removeprefix(mark)
    raise AssertionError("MLflow's process has ended; its words are above")


@contextmanager
def mlflow_process(dsn: str) -> Iterator["subprocess.Popen[str]"]:
    program = Path(__file__).parent / "search" / "mlflow_search.py"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHON"))}
    process = subprocess.Popen(
        [PYTHON, "-W", "ignore", str(program), "postgresql+psycopg2:" + dsn.partition(":")[2]],
        env=environment | {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        answer(process, "READY")
        yield process
    finally:
        process.kill()
        process.wait()


async def fill(dsn: str, tables: tuple[str, ...], statements: Iterator[str]) -> None:
    """Fill tables; the indexes of the large ones are made when the rows are there, which takes a fifth of the time."""
    connection = await asyncpg.connect(dsn)
    indexes = await connection.fetch(INDEXES, tables)
    for index in indexes:
        await connection.execute(index["drop"])
    *inserts, vacuum = statements
    for statement in inserts:
        await connection.execute(statement)
    for index in indexes:
        await connection.execute(index["make"])
    await connection.execute(vacuum)
    await connection.close()


async def measured(searchers: dict[str, Searcher], pages: int) -> dict[str, dict[str, Any]]:
    """Return the median of the last of so many pages, in milliseconds, and its ids, by question and searcher."""
    found: dict[str, dict[str, Any]] = {}
    for name, (text, order_by) in QUESTIONS.items():
        tokens = dict.fromkeys(searchers, "")
        for _ in range(pages - 1):
            for who, searcher in searchers.items():
                *_, tokens[who] = await searcher.page(text, order_by, tokens[who])
        if not all(tokens.values()) and pages > 1:
            continue
        took: dict[str, list[float]] = {who: [] for who in searchers}
        ids: dict[str, list[str]] = {}
        for _ in range(TURNS + 1):
            for who, searcher in searchers.items():
                seconds, ids[who], _ = await searcher.page(text, order_by, tokens[who])
                took[who].append(seconds * 1000)
        found[name] = {"ids": ids, "ms": {who: statistics.median(times[1:]) for who, times in took.items()}}
    return found


async def test_pages_of_a_search(
    postgres_server: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        our_dsn = stack.enter_context(postgres_server.database())
        projection = PostgresProjection(our_dsn)
        await projection.open()
        await projection.close()
        await fill(our_dsn, filling.OURS, filling.ours(RUNS))
        gateway = stack.enter_context(running_gateway_stack(tmp_path, our_dsn, topics)).gateway
        async with Postgres(our_dsn, timeout_s=120) as postgres:
            searchers: dict[str, Searcher] = {"Runtide": Ours(postgres), "Runtide, HTTP": Gateways(gateway.url)}
            if PYTHON:
                mlflow_dsn = stack.enter_context(postgres_server.database())
                searchers["MLflow"] = Mlflows(stack.enter_context(mlflow_process(mlflow_dsn)))
                await fill(mlflow_dsn, filling.MLFLOWS, filling.mlflows(RUNS))
            await told(searchers, capsys)


def topics(bootstrap: str) -> KafkaSettings:
    """Make the log's topics; nothing is in them. The test has a running loop, so this takes one of its own."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, with_topics(bootstrap)).result()


async def told(searchers: dict[str, Searcher], capsys: pytest.CaptureFixture[str]) -> None:
    """Measure, print the table, and hold both to the same answers."""
    for pages in (1, 10):
        found = await measured(searchers, pages)
        with capsys.disabled():
            print(f"\n| page {pages} of 100, median ms, {RUNS:,} runs | {' | '.join(searchers)} |")
            print("|---" * (len(searchers) + 1) + "|")
            for name, one in found.items():
                cells = [f"{one['ms'][who]:.1f}" for who in searchers]
                print(f"| {name} | {' | '.join(cells)} |")
        for one in found.values():
            assert len({tuple(ids) for ids in one["ids"].values()}) == 1
            if "MLflow" in searchers:
                assert one["ms"]["Runtide"] < one["ms"]["MLflow"]
