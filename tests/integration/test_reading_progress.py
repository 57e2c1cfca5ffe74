"""What a reader says of how far it has come: supervisors have patience with a service that says so."""

import asyncio
import logging
import re
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide_consumers import log_reader
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.rebuild.watch import LogWatch, Pace
from runtide_deploy.standalone.service_table import PROGRESS_LINE
from tests.broker_process import running_broker
from tests.kafka_clients import aiokafka_producer, create_topic


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what supervisors take for progress."""
    found = (re.search(PROGRESS_LINE, record.getMessage()) for record in caplog.records)
    return [match.group() for match in found if match]


async def test_a_reader_tells_how_far_it_has_come_until_it_is_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "TELL_S", 0.0)
    monkeypatch.setattr(log_reader, "CHUNK_RECORDS", 10)
    caplog.set_level(logging.INFO)
    wanted = asyncio.Event()
    wanted.set()
    with running_broker(tmp_path) as broker:
        await create_topic(broker.address, "topic")
        async with aiokafka_producer(broker.address) as producer:
            for number in range(30):
                await producer.send_and_wait("topic", str(number).encode())
            reader = await LogReader.open(KafkaSettings(bootstrap=broker.address), {"topic"}, {})
            try:
                while not reader.read_to_end:
                    await reader.fetch(BatchLimits(max_bytes=1), wanted)
                so_far = told(caplog)
                counts = [int(line.removesuffix(" of 30 records")) for line in so_far]
                assert counts
                assert counts == sorted(set(counts))
                assert counts[-1] < 30
                await producer.send_and_wait("topic", b"one more")
                while not await reader.fetch(BatchLimits(max_bytes=1), wanted):
                    pass
            finally:
                await reader.close()
    assert told(caplog) == so_far, "what comes later is no progress of a start"


def test_what_a_rebuild_tells_is_progress_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    LogWatch().pace(Pace(done=3, total=7, rate=1.0, seconds_left=4.0))
    assert told(caplog) == ["3 of 7 events"]
