"""Runs as MLflow's API tells them: PostgreSQL writes their params, tags and metrics as JSON, which must be what MLflow's would be."""

import json
import math
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from random import Random
from typing import Any

import asyncpg
import orjson
import pytest

from runtide_queries.postgres import Postgres
from runtide_queries.search import RunSearch, get_latest_run, search_latest_runs
from runtide_queries.server.mlflow import entities
from tests.integration.search_store import add_run, prepare
from tests.postgres import PostgresServer

LARGEST = 1.7976931348623157e308
HARD = (
    "", " ", '"', "\\", '\\"', "a\nb\tc\r\x01\x1f", "\x7f", "\u2028", "ß", "日本", "🚀", "</script>", "null", "],[", "%s", "{}", "'", "$1",
)  # fmt: skip
VALUES = (
    0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 100.0, 123456789.0, 1e14, 999999999999999.0, 1e15, -1e15, 1e16, 1e22, 1e23, 2.0**53, 2.0**53 + 2,
    1e-4, 1e-5, 5e-324, LARGEST, -LARGEST, 1e300, 123456789012345.6, 0.30000000000000004,
)  # fmt: skip


@pytest.fixture(scope="session")
def layout(postgres_server: PostgresServer) -> str:
    return postgres_server.create_template("runs_as_json", prepare)


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
    async with Postgres(dsn, size=1) as postgres:
        yield postgres


async def data_of(postgres: Postgres, run_id: str) -> dict[str, Any]:
    """Return the data of a run as a client reads it; a page and the run itself say the same."""
    alone = orjson.dumps(entities.run(await get_latest_run(postgres, run_id)))
    page = await search_latest_runs(postgres, RunSearch(id_prefix=run_id))
    assert [orjson.dumps(entities.run(one)) for one in page.runs] == [alone]
    found: dict[str, Any] = json.loads(alone)["data"]
    return found


def pairs(found: list[dict[str, str]]) -> Mapping[str, str]:
    assert [sorted(one) for one in found] == [["key", "value"]] * len(found)
    told = {one["key"]: one["value"] for one in found}
    assert len(told) == len(found)
    return told


async def test_every_letter_arrives(store: Any, postgres: Postgres) -> None:
    hard = {f"{number}{text}": text for number, text in enumerate(HARD)}
    await add_run(store, "a", metrics=dict.fromkeys(hard, 0.5), params=hard, tags=hard)
    found = await data_of(postgres, "a")
    assert pairs(found["params"]) == hard
    assert pairs(found["tags"]) == hard
    assert [metric["key"] for metric in found["metrics"]] == [param["key"] for param in found["params"]]


async def test_every_double_arrives_as_a_double(store: Any, postgres: Postgres) -> None:
    bits = Random(7)
    drawn = [struct.unpack("<d", struct.pack("<Q", bits.getrandbits(64)))[0] for _ in range(300)]
    values = [*VALUES, *filter(math.isfinite, drawn)]
    await add_run(store, "a", metrics={f"{number:04}": value for number, value in enumerate(values)})
    found = [metric["value"] for metric in (await data_of(postgres, "a"))["metrics"]]
    assert {type(value) for value in found} == {float}
    assert [struct.pack("<d", value) for value in found] == [struct.pack("<d", value) for value in values]


async def test_what_json_has_no_number_for(store: Any, postgres: Postgres) -> None:
    await add_run(store, "a", metrics={"none": math.nan, "over": math.inf, "under": -math.inf})
    found = {metric["key"]: metric["value"] for metric in (await data_of(postgres, "a"))["metrics"]}
    assert found == {"none": "NaN", "over": LARGEST, "under": -LARGEST}


async def test_steps_and_times_have_64_bits(store: Any, postgres: Postgres) -> None:
    await add_run(store, "a", metrics={"m": 1.5})
    await store.execute("UPDATE runtide.metric_summaries SET last_step = $1, last_timestamp = $2", -(2**63), 2**63 - 1)
    (found,) = (await data_of(postgres, "a"))["metrics"]
    assert found == {"key": "m", "value": 1.5, "timestamp": 2**63 - 1, "step": -(2**63)}


@pytest.mark.parametrize("tags", [{}, {"mlflow.runName": "before"}, {"a": "1", "mlflow.runName": "before", "z": "2"}])
async def test_a_runs_name_is_the_tag_of_it(store: Any, postgres: Postgres, tags: dict[str, str]) -> None:
    await add_run(store, "named", name='n"', tags=tags)
    await add_run(store, "unnamed", tags=tags)
    assert pairs((await data_of(postgres, "named"))["tags"]) == {**tags, "mlflow.runName": 'n"'}
    assert pairs((await data_of(postgres, "unnamed")).get("tags", [])) == tags


async def test_of_what_a_run_has_not_there_is_no_list(store: Any, postgres: Postgres) -> None:
    await add_run(store, "a")
    assert await data_of(postgres, "a") == {}
    await add_run(store, "b", params={"k": "v"})
    assert await data_of(postgres, "b") == {"params": [{"key": "k", "value": "v"}]}


async def test_a_question_costs_the_session_nothing_else(store: Any, postgres: Postgres) -> None:
    """A transaction that ends badly is ended, and nothing is sent after a question."""
    with pytest.raises(ZeroDivisionError):
        async with postgres.snapshot() as snapshot:
            raise ZeroDivisionError(snapshot)
    await postgres.fetch("SELECT 1 AS asked", [])
    sessions = await store.fetch(
        "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'runtide-queries'"
    )
    assert [tuple(one) for one in sessions] == [("idle", "SELECT 1 AS asked")]
