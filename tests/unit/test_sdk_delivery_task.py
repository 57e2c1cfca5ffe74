"""Delivery that cannot go on says so; nobody waits for what cannot come."""

import asyncio
import time
from pathlib import Path

import pytest

from runtide import delivery
from runtide.delivery import DeliveryWindow
from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide.kafka_transport import KafkaTransport
from runtide.publisher.publisher import Publisher
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas.errors import FatalError, TransientError
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import ParamsLogged

SETTINGS = KafkaSettings(bootstrap="127.0.0.1:9")
RUN = "ab" * 16


def no_producer(_: KafkaSettings) -> None:
    raise FatalError("cannot load the CA certificates RUNTIDE_KAFKA_TLS_CA= ca.pem")


async def broken(_: DeliveryWindow) -> None:
    raise ValueError("a defect")


async def test_missing_tls_files_are_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "new_producer", no_producer)
    said: list[str] = []
    twice = asyncio.Event()

    def hear(text: str, _: str) -> None:
        said.append(text)
        if len(said) == 2:
            twice.set()

    task = asyncio.create_task(DeliveryWindow(SETTINGS, hear).run())
    async with asyncio.timeout(60):
        await twice.wait()
    assert not task.done()
    assert "cannot load the CA certificates RUNTIDE_KAFKA_TLS_CA=" in said[1]
    task.cancel()
    await asyncio.wait({task})


async def test_a_publish_fails_at_once_when_delivery_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeliveryWindow, "run", broken)
    async with DirectPublisher(SETTINGS, service="test", deadline=600) as publisher:
        before = time.monotonic()
        with pytest.raises(TransientError, match=r"delivery has ended: .*a defect"):
            await publisher.publish(CreateExperiment(name="a"))
        assert time.monotonic() - before < 60


def test_the_publisher_says_why_delivery_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeliveryWindow, "run", broken)
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits())
    spool.append(ParamsLogged(run_id=RUN, params={"a": "1"}))
    publisher = Publisher(KafkaTransport(SETTINGS))
    assert publisher.add(spool)
    before = time.monotonic()
    assert not publisher.delivered(spool, 600)
    assert time.monotonic() - before < 60
    assert "a defect" in publisher.trouble
    assert not publisher.alive
    publisher.stop()
