"""What the SDK's tests share: a broker with topics, children that log, and the log read back with its order checked."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from runtide.kafka import KafkaSettings, ensure_topics, new_consumer
from runtide.schema_registry import registry_for
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.envelope import Envelope, from_headers
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import WriterClosed
from tests.broker_process import BrokerProcess, running_broker

RUN_TOPICS = (topics.RUNS, topics.METRICS)
EXIT_DEADLINE = "60"
"""Seconds that runs wait for their broker at their end unless a test says otherwise: 10 are few on a busy machine."""
TELLS_ITS_PATIENCE = """
from runtide.tracking.writer import Writer
close = Writer.close
def told(writer, reason, timeout):
    print("waits for", timeout, flush=True)
    return close(writer, reason, timeout)
Writer.close = told
"""
"""Code of a child that says for how long its end waits: no clock has to be looked at."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One event of the log."""

    topic: str
    envelope: Envelope
    body: Any
    value: bytes


@contextlib.contextmanager
def broker_with_topics(data: Path) -> Iterator[BrokerProcess]:
    """Run a broker that has our topics."""
    with running_broker(data) as broker:
        asyncio.run(ensure_topics(KafkaSettings(bootstrap=broker.address), spread=2))
        yield broker


def read_log(address: str, run_id: str | None = None) -> list[Logged]:
    """Return all events of the log, or those about one run (requests of its writers included)."""
    events = asyncio.run(_read(address))
    if run_id is None:
        return events
    writers = {event.envelope.writer for event in events if event.topic in RUN_TOPICS and event.body.run_id == run_id}
    return [event for event in events if event.envelope.writer in writers]


async def _read(address: str) -> list[Logged]:
    return [event async for event in stream_log(address)]


async def stream_log(address: str) -> AsyncIterator[Logged]:
    """Yield all events that the log has now, one at a time: for logs that are too large to be kept in memory."""
    settings = KafkaSettings(bootstrap=address)
    consumer, schemas = new_consumer(settings), registry_for(settings.schema_registry)
    await consumer.start()
    try:
        counts = {topic.name: 1 if topic.ordered else 2 for topic in topics.TOPICS.values()}
        partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                await schemas.learn([r.value for r in records])
                for r in records:
                    yield Logged(partition.topic, from_headers(r.headers), decode(r.value, schemas.decoder), r.value)
    finally:
        await consumer.stop()


def deduplicated(events: list[Logged]) -> list[Logged]:
    """Return events as any fold sees them: what a writer's sequence had before is skipped, and must be the same."""
    seen: dict[tuple[str, str, int], str] = {}
    kept = []
    for event in events:
        identity = (event.topic, event.envelope.writer, event.envelope.seq)
        if identity not in seen:
            seen[identity] = event.envelope.id
            kept.append(event)
        assert seen[identity] == event.envelope.id, f"two different events have the identity {identity}"
    return kept


def assert_complete(events: list[Logged]) -> None:
    """Every writer's events are there, in order, once, and as many as it says."""
    sequences: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.topic == topics.LIVENESS:  # signs of life may get lost, and count for nothing
            continue
        sequences[event.envelope.writer, event.topic].append(event.envelope.seq)
    for (writer, topic), numbers in sequences.items():
        assert numbers == list(range(len(numbers))), f"{writer} in {topic}: {numbers[:20]}"
    closed = {event.body.writer_id: event.body.counts for event in events if isinstance(event.body, WriterClosed)}
    for writer in {writer for writer, _ in sequences}:
        assert closed[writer] == {topic: len(n) for (other, topic), n in sequences.items() if other == writer}


def points_of(events: list[Logged], key: str) -> list[tuple[int, float]]:
    """Return (step, value) of a metric's points in log order."""
    points = []
    for event in events:
        if isinstance(event.body, MetricsLogged) and key in event.body.keys:
            mine = event.body.key_index == event.body.keys.index(key)
            points += list(zip(event.body.step[mine].tolist(), event.body.value[mine].tolist(), strict=True))
    return points


def bodies(events: list[Logged], kind: type[Any]) -> list[Any]:
    """Return the bodies of one type."""
    return [event.body for event in events if isinstance(event.body, kind)]


def child(
    code: str,
    *arguments: str,
    broker: str,
    spool: Path,
    variables: Mapping[str, str] | None = None,
    steered: bool = False,
    within: Sequence[str] = (),
) -> "subprocess.Popen[str]":
    """Start a Python process that logs to a broker ("" is offline) through a spool.

    ``steered``: by its input. ``within``: a command that runs it.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
    environment |= {"RUNTIDE_BROKER": broker, "RUNTIDE_SPOOL": str(spool), "RUNTIDE_DATA": str(spool / "no-stack")}
    environment |= {"RUNTIDE_EXIT_DEADLINE": EXIT_DEADLINE}
    return subprocess.Popen(
        [*within, sys.executable, "-c", code, *arguments],
        env=environment | dict(variables or {}),
        stdin=subprocess.PIPE if steered else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def patience_of(out: str) -> float:
    """Return for how long the end of a child waited for the broker that ``TELLS_ITS_PATIENCE``."""
    (said,) = (line for line in out.splitlines() if line.startswith("waits for "))
    return float(said.removeprefix("waits for "))


def finished(process: "subprocess.Popen[str]", seconds: float = 120) -> tuple[int, str, str]:
    """Wait for a child; return exit code, standard output and standard error."""
    out, errors = process.communicate(timeout=seconds)
    return process.returncode, out, errors
