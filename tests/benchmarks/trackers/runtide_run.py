"""Runtide: offline, or to a broker."""

import asyncio
from pathlib import Path

import runtide
from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.events.metrics import MetricsLogged
from tests.benchmarks.trackers import Started, log_folder
from tests.integration.sdk_log import broker_with_topics, stream_log


def started(folder: Path) -> Started:
    """Start a run; the environment says whether there is a broker. It is closed when all is on the disk or acknowledged."""
    runtide.init(spool=log_folder(folder), data=folder / "no-stack")
    run = runtide.start_run()

    def close() -> None:
        delivered = run.flush(durable=True, timeout=60)
        assert delivered or run.writer.connection.offline
        run.end(timeout=0)

    return Started(run.log_metric, run.log_metrics, close)


def arrived(folder: Path) -> int:
    """Return how many calls are in the log after ``runtide sync``."""
    with broker_with_topics(folder / "broker") as broker:
        assert sync([log_folder(folder)], KafkaSettings(bootstrap=broker.address)).complete
        return asyncio.run(_steps(broker.address))


async def _steps(address: str) -> int:
    steps: set[int] = set()
    async for event in stream_log(address):
        if isinstance(event.body, MetricsLogged):
            steps.update(event.body.step.tolist())
    return len(steps)
