"""How fast a projection catches up with a full topic, and what of that is reading and decoding.

Run with `make bench`. For each shape of log, in one run and in turns: reading alone, reading and decoding, PostgreSQL's
projector, DuckDB's. Broker, PostgreSQL and projector share this machine; processor time is the projector's alone.
"""

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import pytest

from runtide.kafka import KafkaSettings
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Batch, Drop, Parked, ParkedChunk, Place, Projection, TopicPartition
from runtide_consumers.projector import run_projector
from runtide_schemas import topics
from tests.benchmarks.full_topics import Shape, fill
from tests.integration.service_processes import running_broker, with_topics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("RUNTIDE_BENCHMARK_ROUNDS", "3"))
SHAPES = (
    Shape("1 run, 10 names", runs=1, names=10, per_event=1_000, points=4_000_000),
    Shape("100 runs, 10 names", runs=100, names=10, per_event=1_000, points=4_000_000),
    Shape("10,000 runs, 10 names", runs=10_000, names=10, per_event=100, points=4_000_000),
    Shape("1 run, 100,000 names", runs=1, names=100_000, per_event=1_000, points=4_000_000),
    Shape("20 runs, events of 10 points", runs=20, names=10, per_event=10, points=500_000),
)


class Decoding:
    """A projection that keeps nothing: what is left is reading and decoding."""

    name = "decoding"
    topics = frozenset({topics.METRICS})

    async def open(self) -> None:
        """Have nothing to open."""

    async def positions(self) -> Mapping[TopicPartition, int]:
        """Begin at the beginning."""
        return {}

    async def blocked(self) -> frozenset[str]:
        """Block nothing."""
        return frozenset()

    async def dropped(self) -> Mapping[Place, Drop]:
        """Drop nothing."""
        return {}

    async def parked(self, entity: str, most: int, most_bytes: int) -> ParkedChunk:
        """Keep nothing parked."""
        del entity, most, most_bytes
        return ParkedChunk((), more=False)

    async def parked_at(self, place: Place) -> Parked | None:
        """Keep nothing parked."""
        del place
        return None

    async def apply(self, batch: Batch) -> None:
        """Let go of it; nothing may be parked, or the figure would be of something else."""
        assert not batch.parked

    async def close(self) -> None:
        """Have nothing to close."""


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    with running_broker(tmp_path) as broker:
        yield await with_topics(broker.bootstrap, 8)


async def caught_up(projection: Projection, kafka: KafkaSettings) -> tuple[float, float]:
    """Fold the log until nothing is left; return the seconds that took and those of this process's processor time."""
    stop, began, cpu = asyncio.Event(), time.perf_counter(), time.process_time()
    await run_projector(projection, kafka, stop=stop, ready=stop.set)
    return time.perf_counter() - began, time.process_time() - cpu


async def into_postgres(dsn: str, kafka: KafkaSettings, shape: Shape) -> tuple[float, float]:
    """Fold the log into a new schema, and look whether all of it is there."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("drop schema if exists runtide cascade")
        taken = await caught_up(PostgresProjection(dsn), kafka)
        stored = await connection.fetchval("select sum(point_count)::bigint from runtide.metric_summaries")
    finally:
        await connection.close()
    assert stored == shape.points
    return taken


async def into_duckdb(file: Path, kafka: KafkaSettings, shape: Shape) -> tuple[float, float]:
    """Fold the log into a new file, and look whether all of it is there."""
    settings = DuckdbSettings(file=file)
    taken = await caught_up(DuckdbProjection(settings), kafka)
    projection = DuckdbProjection(settings)
    await projection.open()
    [(stored,)] = await projection.owner.run(
        lambda connection: connection.sql("select count(*) from points").fetchall()
    )
    await projection.close()
    assert stored == shape.points
    return taken


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_points_per_second_of_a_catch_up(
    kafka: KafkaSettings, postgres_dsn: str, tmp_path: Path, shape: Shape
) -> None:
    await fill(kafka, shape)
    files = (tmp_path / f"{number}.duckdb" for number in itertools.count())
    taken: dict[str, list[tuple[float, float]]] = {"decoding": [], "PostgreSQL": [], "DuckDB": []}
    for _ in range(ROUNDS):
        taken["decoding"].append(await caught_up(Decoding(), kafka))
        taken["PostgreSQL"].append(await into_postgres(postgres_dsn, kafka, shape))
        taken["DuckDB"].append(await into_duckdb(next(files), kafka, shape))
    print(f"\n{shape.name}, {shape.per_event} points an event, {shape.points:,} points; medians of {ROUNDS} rounds:")
    for name, rounds in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"  {name:<11} {shape.points / wall / 1e6:6.2f} M points/s, {shape.points / cpu / 1e6:6.2f} M per processor second"
        )
