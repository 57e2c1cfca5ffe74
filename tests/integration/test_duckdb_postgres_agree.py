"""Both projections make the same of the same log: every table that they share, row by row."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Projection
from tests.event_log import EventLog as Histories
from tests.random_history import random_history
from tests.unit.event_log import EventLog
from tests.unit.random_log import random_log

TABLES = (
    "runs",
    "params",
    "tags",
    "artifacts",
    "claimed_models",
    "claimed_model_params",
    "claimed_model_tags",
    "logged_model_metrics",
    "run_models",
    "writers",
    "writer_positions",
    "writer_gaps",
    "experiments",
    "experiment_requests",
    "registered_models",
    "model_versions",
    "model_aliases",
    "deployments",
    "metric_summaries",
)
NAMED_OTHERWISE = {
    "claimed_models": "logged_models",
    "claimed_model_params": "logged_model_params",
    "claimed_model_tags": "logged_model_tags",
}
"""What PostgreSQL calls it; in DuckDB the names are those of views for whoever writes SQL."""


def _plain(value: Any) -> Any:
    """Return a value as text that is the same from either store; the two have other types for lists."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value + 0.0)  # PostgreSQL holds 0.0 and -0.0 to be one
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.dumps(json.loads(value), sort_keys=True)
    return json.dumps(value) if isinstance(value, list) else repr(value)


def _sorted(rows: Sequence[Any]) -> list[list[str]]:
    return sorted([_plain(value) for value in row] for row in rows)


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_both_projections_agree(tmp_path: Path, postgres_dsn: str, seed: int) -> None:
    await hold_together(tmp_path, postgres_dsn, random_log(Random(seed)), seed)


@pytest.mark.parametrize("seed", SEEDS)
async def test_both_projections_agree_about_models_and_purges(tmp_path: Path, postgres_dsn: str, seed: int) -> None:
    await hold_together(tmp_path, postgres_dsn, random_history(Random(seed), 200), seed)


async def hold_together(folder: Path, postgres_dsn: str, log: EventLog | Histories, seed: int) -> None:
    """Fold a log into both stores, cut in two ways, and compare their tables."""
    duckdb = DuckdbProjection(DuckdbSettings(file=folder / "history.duckdb"))
    postgres = PostgresProjection(postgres_dsn)
    both: tuple[Projection, ...] = (duckdb, postgres)
    for number, projection in enumerate(both):
        await projection.open()
        for batch in log.batches(Random(seed + number)):
            await projection.apply(batch)
    connection = await asyncpg.connect(postgres_dsn)
    try:
        for table in TABLES:
            relation = await duckdb.owner.run(lambda owned, table=table: _table(owned, table))  # type: ignore[misc]
            columns = ", ".join(relation[0])
            found = await connection.fetch(f"SELECT {columns} FROM runtide.{NAMED_OTHERWISE.get(table, table)}")
            assert _sorted(relation[1]) == _sorted([tuple(row) for row in found]), table
    finally:
        await connection.close()
        await duckdb.close()
        await postgres.close()


def _table(connection: Any, table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    relation = connection.table(table)
    return relation.columns, relation.fetchall()
