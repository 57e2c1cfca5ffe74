"""How fast a log of metric events becomes a store again: the whole way from the broker, comparison and swap included.

Run with `make bench`. Broker, PostgreSQL and the rebuild share this machine.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.projection import Projection
from runtide_consumers.projector import run_projector
from runtide_consumers.rebuild.procedure import Wishes, rebuild
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.rebuild.watch import Pace
from runtide_schemas import topics
from tests.benchmarks.test_duckdb_apply import encoded_records
from tests.integration.service_processes import running_broker, with_topics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

POINTS = 10_000_000
PER_EVENT = 1_000


class _Paces:
    """Keeps when each step began and how far the fold was last."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.steps: list[tuple[float, str]] = []
        self.last: Pace | None = None

    def step(self, text: str) -> None:
        self.steps.append((time.perf_counter() - self.began, text))

    def pace(self, pace: Pace) -> None:
        self.last = pace


@pytest.fixture
async def full_log(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    """A broker whose log holds the points."""
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        producer = new_producer(kafka)
        await producer.start()
        for record in encoded_records(POINTS, PER_EVENT):
            run = dict(record.headers)["ce_subject"]
            await producer.send(topics.METRICS, record.value, key=run, headers=list(record.headers))
        await producer.flush()
        await producer.stop()
        yield kafka


async def caught_up(projection: Projection, kafka: KafkaSettings) -> float:
    """Fold the log as a live projector does, and return how long that took."""
    stop, began = asyncio.Event(), time.perf_counter()
    await run_projector(projection, kafka, stop=stop, ready=stop.set)
    return time.perf_counter() - began


async def measured(store: RebuildableStore, live: Projection, kafka: KafkaSettings) -> None:
    """Fold the live store, rebuild it, and print both rates."""
    caught_up_s = await caught_up(live, kafka)
    watch, cpu = _Paces(), time.process_time()
    comparison = await rebuild(store, kafka, watch, Wishes())
    whole_s, cpu_s = time.perf_counter() - watch.began, time.process_time() - cpu
    assert comparison is not None
    assert comparison.differences == ()
    assert watch.last is not None
    events = POINTS // PER_EVENT
    assert watch.last.done == watch.last.total == events
    print(
        f"\n{store.name}: {POINTS / 1e6:.0f} M points in events of {PER_EVENT}: catch-up of a projector "
        f"{POINTS / caught_up_s / 1e6:.2f} M points/s; rebuild: fold {watch.last.rate * PER_EVENT / 1e6:.2f} M points/s, "
        f"all of it with comparison and swap {POINTS / whole_s / 1e6:.2f} M points/s ({whole_s:.1f} s); "
        f"{POINTS / cpu_s / 1e6:.2f} M points per second of this process's CPU"
    )
    for seconds, text in watch.steps:
        print(f"  {seconds:6.2f} s  {text}")


async def test_points_per_second_of_a_rebuild_of_postgres(full_log: KafkaSettings, postgres_dsn: str) -> None:
    await measured(PostgresStore(postgres_dsn), PostgresProjection(postgres_dsn), full_log)


async def test_points_per_second_of_a_rebuild_of_duckdb(full_log: KafkaSettings, tmp_path: Path) -> None:
    settings = DuckdbSettings(file=tmp_path / "history.duckdb")
    await measured(DuckdbStore(settings, None), DuckdbProjection(settings), full_log)
