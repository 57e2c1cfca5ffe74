"""A projector's numbers for Prometheus, and its memory, while its store keeps it waiting."""

import asyncio
import re
import time
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.errors import TransientError
from runtide_schemas.topics import METRICS
from tests.integration.postgres_stack import PostgresStack, eventually, points, running_stack
from tests.integration.service_processes import Service, running_broker, started, with_topics

RUN = "a" * 32
POINTS = 1_000
PAUSE_S = 120


def scraped(service: Service) -> dict[str, float]:
    """Return the sum of each metric over its labels."""
    (address,) = re.findall(r"metrics of postgres at (http://\S+)", service.log())
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(address, trust_env=False, timeout=60).text):
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
                    await eventually(lambda: _told(projector, "runtide_projector_lag_events", 4), "a lag")
                    behind = scraped(projector)
                    assert behind["runtide_projector_lag_seconds"] > 0
                    assert behind["runtide_projector_lag_bytes"] > 0
                await eventually(lambda: _told(projector, "runtide_projector_events_total", 6), "all events")
            for lag in ("events", "seconds", "bytes"):
                await eventually(lambda lag=lag: _is(projector, f"runtide_projector_lag_{lag}", 0), "no lag")  # type: ignore[misc]  # bound now
            told = scraped(projector)
    assert told["runtide_projector_lag_seconds"] == told["runtide_projector_lag_bytes"] == 0
    assert told["runtide_projector_batch_events_sum"] == 6
    assert told["runtide_projector_apply_seconds_count"] == told["runtide_projector_batches_total"] >= 2
    assert told["runtide_projector_bytes_total"] > 0
    assert told["runtide_projector_parked_total"] == 0


async def test_the_lag_of_a_reader_that_does_not_fetch_is_told(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        async with Firehose(kafka) as firehose:
            await firehose.pour(1)
            reader = await LogReader.open(kafka, [METRICS], {})
            wanted = asyncio.Event()
            wanted.set()
            try:
                while not await reader.read(BatchLimits(), wanted):
                    pass
                await firehose.pour(50)  # of which it fetches some ahead, and hears no more
                await reader.ask_for_ends()
                assert sum(reader.lag(reader.positions_at_start()).values()) == 51
                broker.kill()
                with pytest.raises(TransientError, match="where the log ends"):
                    await reader.ask_for_ends()
            finally:
                await reader.close()


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
@pytest.mark.timeout(900)
async def test_a_store_that_stands_still_costs_no_memory(tmp_path: Path, postgres_dsn: str) -> None:
    """While points pour in, the projector holds a batch or two, however long PostgreSQL keeps it waiting; and it says so."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        with started(projector_with_metrics(stack)) as projector:
            projector.ready()
            async with Firehose(stack.kafka) as firehose:
                await firehose.pour(1)
                await eventually(lambda: _told(projector, "runtide_projector_events_total", 1), "the first event")
                process = psutil.Process(projector.pid)
                before = most = process.memory_info().rss
                async with stack.connection() as blocking, blocking.transaction():
                    await blocking.execute("lock table projection_offsets in access exclusive mode")
                    ends = time.monotonic() + PAUSE_S
                    while time.monotonic() < ends or firehose.events < 20_000:
                        await firehose.pour(100)
                        most = max(most, process.memory_info().rss)
                        await asyncio.sleep(PAUSE_S / 250)
                    behind = firehose.events * 0.9
                    await eventually(lambda: _told(projector, "runtide_projector_lag_events", behind), "the whole lag")
                await firehose.until(stack)
                after = process.memory_info().rss
    print(
        f"\n{firehose.events:,} events of {POINTS:,} points during {PAUSE_S} s; resident memory {before / 2**20:.0f} MiB "
        f"before, at most {most / 2**20:.0f} MiB meanwhile, {after / 2**20:.0f} MiB when it had caught up"
    )
    assert most - before < 200 * 2**20


class Firehose:
    """A writer that publishes many events at once."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.events = 0
        self._producer = new_producer(kafka)

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def pour(self, events: int) -> None:
        """Publish so many events, and wait until the log has them."""
        for _ in range(events):
            envelope = make_envelope("MetricsLogged", subject=RUN, writer="firehose", seq=self.events)
            body = encode(points(RUN, POINTS * self.events, POINTS))
            await self._producer.send(METRICS, body, key=RUN.encode(), headers=to_headers(envelope))
            self.events += 1
        await self._producer.flush()

    async def until(self, stack: PostgresStack) -> None:
        """Wait as long as the store comes nearer to what was published."""
        done, sql = -1, "select coalesce(sum(point_count), 0)::bigint from metric_summaries"
        while (now := int(await stack.value(sql))) != POINTS * self.events:
            assert now > done, f"{now} of {POINTS * self.events} points, and no more in ten seconds"
            done = now
            await asyncio.sleep(10)


async def _told(service: Service, name: str, least: float) -> bool:
    return scraped(service).get(name, 0.0) >= least


async def _is(service: Service, name: str, value: float) -> bool:
    return scraped(service).get(name) == value
