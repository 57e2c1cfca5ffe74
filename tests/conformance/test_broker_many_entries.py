"""Requests with many entries that have to be stored: syncs hold up everybody, so they are few, or others go between."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kio.schema.alter_configs.v2.request import AlterableConfig as WholeConfig
from kio.schema.alter_configs.v2.request import AlterConfigsRequest
from kio.schema.alter_configs.v2.request import AlterConfigsResource as WholeResource
from kio.schema.delete_records.v2.request import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from kio.schema.errors import ErrorCode
from kio.schema.incremental_alter_configs.v1.request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kio.schema.types import TopicName
from kio.static.primitive import i8, i32, i32Timedelta, i64

from runtide_deploy.broker import topics as topics_module
from runtide_deploy.broker.server import Broker
from runtide_deploy.broker.settings import BrokerSettings
from tests.broker_batches import make_batch
from tests.broker_process import RawClient

TOPIC, SET = i8(2), i8(0)
COUNT = 20
NAMES = [f"topic-{number}" for number in range(COUNT)]
SYNCS_OF_A_SMALL_FILE = 2
"""Itself, and its folder."""


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker.start(BrokerSettings(data=tmp_path / "data", port=0)) as running:
        for name in NAMES:
            running.state.topics.create(name, 1, {})
        yield running


class Syncs:
    """Counts syncs by the turn of the event loop in which they are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_turn: Counter[int] = Counter()
        self._turn = 0
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self._turn += 1
        self._loop.call_soon(self._next)

    def _sync(self, descriptor: int) -> None:
        self.by_turn[self._turn] += 1
        self._real(descriptor)


async def ask(broker: Broker, request: Any) -> Any:
    raw = RawClient(int(broker.address.rpartition(":")[2]))
    try:
        return await asyncio.to_thread(raw.ask, request)
    finally:
        raw.close()


def incremental(value: str, *more: AlterConfigsResource) -> IncrementalAlterConfigsRequest:
    change = AlterableConfig(name="retention.ms", config_operation=SET, value=value)
    resources = [AlterConfigsResource(resource_type=TOPIC, resource_name=name, configs=(change,)) for name in NAMES]
    return IncrementalAlterConfigsRequest(resources=(*resources, *more), validate_only=False)


def whole(value: str) -> AlterConfigsRequest:
    entry = WholeConfig(name="retention.ms", value=value)
    resources = [WholeResource(resource_type=TOPIC, resource_name=name, configs=(entry,)) for name in NAMES]
    return AlterConfigsRequest(resources=tuple(resources), validate_only=False)


def retention(broker: Broker) -> set[tuple[str | None, int]]:
    found = [broker.state.topics.existing(name) for name in NAMES]
    return {(topic.config.get("retention.ms"), topic.partitions[0].limits.retention_ms) for topic in found}


@pytest.mark.parametrize("request_of", [incremental, whole])
async def test_configurations_of_many_topics_are_one_write(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, request_of: Any
) -> None:
    syncs = Syncs(monkeypatch)
    response = await ask(broker, request_of("5000000"))
    assert [one.error_code for one in response.responses] == [ErrorCode.none] * COUNT
    assert retention(broker) == {("5000000", 5000000)}
    assert syncs.by_turn.total() == SYNCS_OF_A_SMALL_FILE


async def test_what_is_refused_keeps_nothing_else_from_being_stored(broker: Broker) -> None:
    unknown = AlterConfigsResource(resource_type=TOPIC, resource_name="unknown", configs=())
    response = await ask(broker, incremental("5000000", unknown))
    assert [one.error_code for one in response.responses[-2:]] == [ErrorCode.none, ErrorCode.unknown_topic_or_partition]
    assert retention(broker) == {("5000000", 5000000)}


async def test_what_the_disk_refuses_changes_nothing(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(topics_module, "replace_file", full)
        response = await ask(broker, incremental("5000000"))
    assert {one.error_code for one in response.responses} == {ErrorCode.kafka_storage_error}
    assert retention(broker) == {(None, -1)}


async def test_others_have_their_turn_while_records_of_many_partitions_are_deleted(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [broker.state.topics.partition(name, 0) for name in NAMES]
    for log in logs:
        stored = log.append(make_batch(b"a", b"b"), 1000).stored
        assert stored is not None
        await asyncio.shield(stored)
    one = DeleteRecordsPartition(partition_index=i32(0), offset=i64(-1))
    wanted = [DeleteRecordsTopic(name=TopicName(name), partitions=(one,)) for name in NAMES]
    twice = DeleteRecordsTopic(name=TopicName(NAMES[0]), partitions=(one,))
    syncs = Syncs(monkeypatch)
    response = await ask(
        broker, DeleteRecordsRequest(topics=(*wanted, twice), timeout=i32Timedelta.parse(timedelta(seconds=1)))
    )
    results = [topic.partitions[0] for topic in response.topics]
    refused = (ErrorCode.invalid_request, -1)
    assert [(one.error_code, one.low_watermark) for one in results] == [
        refused,
        *[(ErrorCode.none, 2)] * (COUNT - 1),
        refused,
    ]
    assert [log.start_offset for log in logs] == [0] + [2] * (COUNT - 1)
    assert syncs.by_turn.total() == SYNCS_OF_A_SMALL_FILE * (COUNT - 1)
    assert max(syncs.by_turn.values()) == SYNCS_OF_A_SMALL_FILE
