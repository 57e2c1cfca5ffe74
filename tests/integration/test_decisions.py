"""The registrar's answers, followed in a log whose facts are large: no more of it is read than is remembered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from runtide.kafka import KafkaSettings
from runtide_queries import decisions
from runtide_queries.decisions import Decisions
from runtide_schemas.codec import encode
from runtide_schemas.events.catalog import Answer, ExperimentCreated
from runtide_schemas.topics import CATALOG
from tests.integration.sdk_log import broker_with_topics

SMALL, LARGE, FACTS = 1_000, 20_000, 400


def fact(number: int, size: int) -> bytes:
    answer = Answer(request_id=f"r{number}", request_offset=number, request_writer="w", request_seq=number)
    return encode(ExperimentCreated(answer=answer, experiment_id=str(number), name="x" * size, at=1))


async def publish(address: str, sizes: list[int]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, linger_ms=20) as producer:
        sent = [await producer.send(CATALOG, fact(number, size)) for number, size in enumerate(sizes)]
        for one in sent:
            await one


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A broker's."""
    with broker_with_topics(tmp_path) as broker:
        yield broker.address


async def test_no_more_is_read_than_is_remembered(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "REMEMBERED_BYTES", 400_000)
    monkeypatch.setattr(decisions, "_FETCH_BYTES", 50_000)
    read: list[int] = []
    original = AIOKafkaConsumer.getmany

    async def counted(consumer: AIOKafkaConsumer, *partitions: Any, **options: Any) -> Any:
        found = await original(consumer, *partitions, **options)
        read.extend(len(record.value) for records in found.values() for record in records)
        return found

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", counted)
    await publish(address, [LARGE] * (FACTS - 40) + [SMALL] * 40)
    following = Decisions(KafkaSettings(bootstrap=address))
    try:
        assert await following.answer(f"r{FACTS - 1}", 60) == fact(FACTS - 1, SMALL)
        assert await following.answer(f"r{FACTS - 45}", 0) is not None, (
            "all small ones, and some large ones before them"
        )
        assert await following.answer(f"r{FACTS - 80}", 0) is None
        assert sum(read) < 4 * 400_000
    finally:
        await following.close()
