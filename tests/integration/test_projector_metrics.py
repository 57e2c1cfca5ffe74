"""A projector's numbers for Prometheus, and its memory, while its store keeps it waiting."""

import re
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtide.direct import DirectPublisher
from runtide_schemas.topics import METRICS
from tests.integration.postgres_stack import PostgresStack, eventually, points, running_stack
from tests.integration.service_processes import Service, started

RUN = "a" * 32
POINTS = 1_000


def scraped(service: Service) -> dict[str, float]:
    """Return the sum of each metric over its labels."""
    (address,) = re.findall(r"metrics of postgres at (http://\S+)", service.log())
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(address, trust_env=False).text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


def projector_with_metrics(stack: PostgresStack) -> Service:
    arguments = ("--dsn", stack.dsn, "--metrics-port", "0")
    return Service(stack.folder, "projector", "runtide_consumers.postgres", *arguments, bootstrap=stack.kafka.bootstrap)


async def test_lag_batches_and_times_are_told(tmp_path: Path, postgres_dsn: str) -> None:
    async with running_stack(tmp_path, postgres_dsn) as stack:
        with started(projector_with_metrics(stack)) as projector:
            projector.ready()
            async with DirectPublisher(stack.kafka, "writer") as writer:
                await writer.publish(points(RUN, 0, 10))
                await eventually(lambda: _told(projector, "runtide_projector_events_total", 1), "the first event")
                async with stack.connection() as blocking, blocking.transaction():
                    await blocking.execute("lock table projection_offsets in access exclusive mode")
                    for first in range(10, 60, 10):
                        await writer.publish(points(RUN, first, 10))
                    await eventually(lambda: _told(projector, "runtide_projector_lag_events", 1), "a lag")
                    behind = scraped(projector)
                    assert behind["runtide_projector_lag_seconds"] > 0
                    assert behind["runtide_projector_lag_bytes"] > 0
                await eventually(lambda: _told(projector, "runtide_projector_events_total", 6), "all events")
            await eventually(lambda: _is(projector, "runtide_projector_lag_events", 0), "no lag")
            told = scraped(projector)
    assert told["runtide_projector_lag_seconds"] == told["runtide_projector_lag_bytes"] == 0
    assert told["runtide_projector_batch_events_sum"] == 6
    assert told["runtide_projector_apply_seconds_count"] == told["runtide_projector_batches_total"] >= 2
    assert told["runtide_projector_bytes_total"] > 0
    assert told["runtide_projector_parked_total"] == 0


async def test_a_port_that_is_taken_is_said(tmp_path: Path, postgres_dsn: str) -> None:
    async with running_stack(tmp_path, postgres_dsn) as stack:
        taken = stack.kafka.bootstrap.rpartition(":")[2]
        arguments = ("--dsn", stack.dsn, "--metrics-port", taken)
        with started(
            Service(tmp_path, "p", "runtide_consumers.postgres", *arguments, bootstrap=stack.kafka.bootstrap)
        ) as p:
            assert p.wait() == 3
            assert "RUNTIDE_METRICS_PORT" in p.log()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_store_that_stands_still_costs_no_memory(tmp_path: Path, postgres_dsn: str) -> None:
    """While 400 MB of points pour in, the projector holds a batch or two, however long PostgreSQL keeps it waiting."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        with started(projector_with_metrics(stack)) as projector:
            projector.ready()
            async with DirectPublisher(stack.kafka, "writer") as writer:
                await writer.publish(points(RUN, 0, POINTS))
                await eventually(lambda: _told(projector, "runtide_projector_events_total", 1), "the first event")
                process = psutil.Process(projector.pid)
                before = most = process.memory_info().rss
                async with stack.connection() as blocking, blocking.transaction():
                    await blocking.execute("lock table projection_offsets in access exclusive mode")
                    for number in range(20_000):
                        await writer.publish(points(RUN, POINTS * (number + 1), POINTS))
                        if number % 100 == 0:
                            most = max(most, process.memory_info().rss)
                await eventually(lambda: _told(projector, "runtide_projector_events_total", 20_001), "all events")
            total = await stack.value("select point_count from metric_summaries where key = 'loss'")
    assert total == POINTS * 20_001
    print(f"\nresident memory: {before / 2**20:.0f} MiB before, at most {most / 2**20:.0f} MiB ({METRICS})")
    assert most - before < 200 * 2**20


async def _told(service: Service, name: str, least: float) -> bool:
    return scraped(service).get(name, 0.0) >= least


async def _is(service: Service, name: str, value: float) -> bool:
    return scraped(service).get(name) == value
