"""Random filters and orders on real PostgreSQL come to what the rules say."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from runtide_queries.postgres import Postgres
from runtide_queries.search import RunSearch, search_runs
from runtide_queries.search.grammar import parse_filter, parse_order
from runtide_queries.search.vocabularies import CONTEXT_TAG
from tests.integration.search_store import add_run, prepare
from tests.unit.random_filters import NAMES, ORDERED, TREES, samples
from tests.unit.search_rules import Sample, holds, in_order

RUNS = samples(some.none() | some.integers(0, 3), some.none() | NAMES)


class Searched:
    """A database, and how to ask it from a test that is not asynchronous itself."""

    def __init__(self, store: Any, postgres: Postgres, runner: asyncio.Runner) -> None:
        self._store = store
        self._postgres = postgres
        self.runner = runner

    async def ids(self, runs: list[Sample], asked: list[RunSearch]) -> list[list[str]]:
        """Return what searches find in just these runs, page by page."""
        for table in ("runs", "metric_summaries", "params", "tags", "inputs"):
            await self._store.execute(f"DELETE FROM runtide.{table}")
        for run in runs:
            told = [
                (name, digest, json.dumps({CONTEXT_TAG: used} if used else {})) for name, digest, used in run.datasets
            ]
            await add_run(
                self._store, run.run_id, name=run.name, status=run.status, start=run.start_time, metrics=run.metrics,
                params=run.params, tags=run.tags, datasets=told,
            )  # fmt: skip
        return [await self._pages(self._postgres, search) for search in asked]

    async def _pages(self, postgres: Postgres, search: RunSearch) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = await search_runs(
                postgres, RunSearch(filter=search.filter, order_by=search.order_by, page_size=2, page_token=token)
            )
            found += [run.info.run_id for run in page.runs]
            token = page.next_page_token
            if not token:
                return found


@pytest.fixture
def searched(postgres_dsn: str) -> Iterator[Searched]:
    with asyncio.Runner() as runner:
        runner.run(prepare(postgres_dsn))
        store = runner.run(asyncpg.connect(postgres_dsn))
        postgres = runner.run(Postgres(postgres_dsn, size=1).__aenter__())
        yield Searched(store, postgres, runner)
        runner.run(postgres.__aexit__(None, None, None))
        runner.run(store.close())


def hold_to_the_rules(searched: Searched, runs: list[Sample], filters: list[str], terms: list[str]) -> None:
    asked = [RunSearch(filter=text, order_by=tuple(terms)) for text in filters]
    orders = [parse_order(term) for term in terms]
    expected = [in_order([run for run in runs if holds(parse_filter(text), run)], orders) for text in filters]
    assert searched.runner.run(searched.ids(runs, asked)) == expected


ASKED = (RUNS, some.lists(TREES, min_size=3, max_size=6), ORDERED)
HERE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=15, deadline=None, suppress_health_check=HERE)
@given(*ASKED)
def test_any_search_finds_what_the_rules_say(
    searched: Searched, runs: list[Sample], filters: list[str], terms: list[str]
) -> None:
    hold_to_the_rules(searched, runs, filters, terms)


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None, suppress_health_check=HERE)
@given(*ASKED)
def test_very_many_searches_find_what_the_rules_say(
    searched: Searched, runs: list[Sample], filters: list[str], terms: list[str]
) -> None:
    hold_to_the_rules(searched, runs, filters, terms)
