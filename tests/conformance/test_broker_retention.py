"""Retention, changed configurations and deleted records, as clients see them on either broker."""

import asyncio
import os
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource as AiokafkaResource
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import OffsetOutOfRangeError
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package re-exports them without __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourcePatternType,
    ResourceType,
)
from kio.schema.errors import ErrorCode
from kio.schema.incremental_alter_configs.v1.request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kio.static.primitive import i8

from runtide.kafka import KafkaSettings, ensure_topics
from runtide_schemas.topics import TOPICS
from tests.broker_process import BrokerProcess, RawClient
from tests.kafka_clients import (
    KafkaAddress,
    aiokafka_admin,
    aiokafka_consumer,
    aiokafka_producer,
    create_topic,
    read_all,
)

SEGMENT = 1 << 20
SWEEP_SECONDS = 60.0


@pytest.fixture(autouse=True)
def sweeps_often() -> None:
    if os.environ.get("RUNTIDE_TEST_KAFKA", "docker") != "docker":
        pytest.skip("the Kafka that RUNTIDE_TEST_KAFKA names looks for expired segments too seldom")


async def until_it_begins(consumer: Any, place: TopicPartition, at_least: int) -> int:
    """Wait until the log begins at or behind an offset, and return where."""
    async with asyncio.timeout(SWEEP_SECONDS):
        while True:
            found = int((await consumer.beginning_offsets([place]))[place])
            if found >= at_least:
                return found
            await asyncio.sleep(0.05)


async def test_the_oldest_segments_go_by_size_and_readers_are_told(kafka: KafkaAddress, topic: str) -> None:
    await create_topic(kafka.address, topic, segment_bytes=str(SEGMENT), retention_bytes=str(2 * SEGMENT))
    place = TopicPartition(topic, 0)
    async with aiokafka_producer(kafka.address) as producer, aiokafka_consumer(kafka.address) as consumer:
        for number in range(40):
            await producer.send_and_wait(topic, b"%d" % number + bytes(200_000), timestamp_ms=1000 + number)
        begin = await until_it_begins(consumer, place, 25)  # a sweep amid the records may have stopped at less
        assert begin <= 40 - 10
        assert (await consumer.end_offsets([place]))[place] == 40
        found = (await consumer.offsets_for_times({place: 1000}))[place]
        assert (found.offset, found.timestamp) == (begin, 1000 + begin)
        consumer.assign([place])
        consumer.seek(place, 1)
        assert (await asyncio.wait_for(consumer.getone(), 60)).offset == begin
        assert (await producer.send_and_wait(topic, b"40")).offset == 40
    [kept] = (await read_all_from(kafka.address, place, begin)).values()
    assert [record.offset for record in kept] == list(range(begin, 41))
    async with aiokafka_consumer(kafka.address, auto_offset_reset="none") as consumer:
        consumer.assign([place])
        consumer.seek(place, 1)
        with pytest.raises(OffsetOutOfRangeError):
            await asyncio.wait_for(consumer.getone(), 60)


async def read_all_from(address: str, place: TopicPartition, begin: int) -> dict[int, list[Any]]:
    """Read everything; the first record must be the one at ``begin``."""
    found = await read_all(address, place.topic, fetch_max_bytes=1 << 20)
    assert found[place.partition][0].offset == begin
    return found


async def test_old_records_go_when_a_changed_configuration_says_so(kafka: KafkaAddress, topic: str) -> None:
    await create_topic(kafka.address, topic)
    place = TopicPartition(topic, 0)
    async with (
        aiokafka_producer(kafka.address) as producer,
        aiokafka_consumer(kafka.address) as consumer,
        aiokafka_admin(kafka.address) as admin,
    ):
        for number in range(5):
            await producer.send_and_wait(topic, b"old", timestamp_ms=1000 + number)
        wanted = AiokafkaResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "3600000"})
        await admin.alter_configs([wanted])
        assert await until_it_begins(consumer, place, 5) == 5
        assert (await consumer.offsets_for_times({place: 0}))[place] is None
        # The producer goes on, although nothing of what it wrote is left.
        assert (await producer.send_and_wait(topic, b"new")).offset == 5
        await consumer.beginning_offsets([place])
        [kept] = (await read_all(kafka.address, topic)).values()
        assert [(record.offset, record.value) for record in kept] == [(5, b"new")]


async def test_records_are_deleted_on_request(kafka: KafkaAddress, topic: str) -> None:
    await create_topic(kafka.address, topic)
    place = TopicPartition(topic, 0)
    async with (
        aiokafka_producer(kafka.address) as producer,
        aiokafka_consumer(kafka.address) as consumer,
        aiokafka_admin(kafka.address) as admin,
    ):
        await asyncio.gather(*[await producer.send(topic, b"%d" % number, timestamp_ms=number) for number in range(10)])
        assert await admin.delete_records({place: RecordsToDelete(before_offset=4)}) == {place: 4}
        assert (await consumer.beginning_offsets([place]))[place] == 4
        assert (await consumer.offsets_for_times({place: 0}))[place].offset == 4
        with pytest.raises(OffsetOutOfRangeError):
            await admin.delete_records({place: RecordsToDelete(before_offset=11)})
        consumer.assign([place])
        consumer.seek(place, 2)
        assert (await asyncio.wait_for(consumer.getone(), 60)).value == b"4"
        assert await admin.delete_records({place: RecordsToDelete(before_offset=-1)}) == {place: 10}


def alter(admin: Any, topic: str, name: str, value: str | None, operation: Any) -> None:
    change = ConfigEntry(name, value, incremental_operation=operation)
    [done] = admin.incremental_alter_configs(
        [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])]
    ).values()
    done.result(60)


def described(admin: Any, topic: str) -> Any:
    [done] = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    return done.result(60)


async def until_described(admin: Any, topic: str, name: str, value: str, source: ConfigSource) -> None:
    """Apache Kafka answers before its brokers know."""
    async with asyncio.timeout(60):
        while True:
            entry = described(admin, topic)[name]
            if (entry.value, ConfigSource(entry.source)) == (value, source):
                return
            await asyncio.sleep(0.05)


async def test_single_entries_are_changed_and_given_up(kafka: KafkaAddress, topic: str) -> None:
    await create_topic(kafka.address, topic, segment_ms="5000000")
    admin = AdminClient({"bootstrap.servers": kafka.address})
    before = described(admin, topic)
    own, inherited = ConfigSource.DYNAMIC_TOPIC_CONFIG, ConfigSource(before["retention.bytes"].source)
    assert inherited is not own
    assert not before["segment.ms"].is_read_only
    assert before["retention.ms"].value == "-1"
    alter(admin, topic, "retention.bytes", "123456789", AlterConfigOpType.SET)
    await until_described(admin, topic, "retention.bytes", "123456789", own)
    await until_described(admin, topic, "segment.ms", "5000000", own)
    alter(admin, topic, "retention.bytes", None, AlterConfigOpType.DELETE)
    await until_described(admin, topic, "retention.bytes", before["retention.bytes"].value, inherited)
    alter(admin, topic, "cleanup.policy", "delete", AlterConfigOpType.APPEND)
    await until_described(admin, topic, "segment.ms", "5000000", own)


@pytest.mark.parametrize(
    ("name", "value", "operation", "code"),
    [
        ("retention.ms", "-2", AlterConfigOpType.SET, KafkaError.INVALID_CONFIG),
        ("retention.ms", "soon", AlterConfigOpType.SET, KafkaError.INVALID_CONFIG),
        ("retention.ms", "1", AlterConfigOpType.APPEND, KafkaError.INVALID_CONFIG),
        ("segment.bytes", "1000", AlterConfigOpType.SET, KafkaError.INVALID_CONFIG),
        ("no.such.config", "1", AlterConfigOpType.SET, KafkaError.INVALID_CONFIG),
    ],
)
async def test_changes_that_cannot_be_are_refused(
    kafka: KafkaAddress, topic: str, name: str, value: str, operation: Any, code: int
) -> None:
    await create_topic(kafka.address, topic)
    admin = AdminClient({"bootstrap.servers": kafka.address})
    with pytest.raises(KafkaException) as refused:
        alter(admin, topic, name, value, operation)
    assert refused.value.args[0].code() == code
    with pytest.raises(KafkaException) as refused:
        alter(admin, f"no-{topic}", "retention.ms", "1", AlterConfigOpType.SET)
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def resource(name: str, *changes: tuple[str, str | None], kind: int = 2) -> AlterConfigsResource:
    return AlterConfigsResource(
        resource_type=i8(kind),
        resource_name=name,
        configs=tuple(AlterableConfig(name=key, config_operation=i8(0), value=value) for key, value in changes),
    )


async def test_changes_that_make_no_sense_are_refused(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    await create_topic(kafka.address, topic)
    cases = (
        (resource(topic, ("segment.ms", "5"), ("segment.ms", "6")),),
        (resource(topic, ("segment.ms", None)),),
        (resource(topic, ("segment.ms", "5")), resource(topic, ("retention.ms", "5"))),
        (resource(topic, ("segment.ms", "5"), kind=99),),
    )
    for resources in cases:
        answer = raw_kafka.ask(IncrementalAlterConfigsRequest(resources=resources, validate_only=False))
        assert {found.error_code for found in answer.responses} == {ErrorCode.invalid_request}
    checked = IncrementalAlterConfigsRequest(resources=(resource(topic, ("segment.ms", "5")),), validate_only=True)
    [found] = raw_kafka.ask(checked).responses
    assert found.error_code is ErrorCode.none
    assert described(AdminClient({"bootstrap.servers": kafka.address}), topic)["segment.ms"].value == "604800000"


def test_the_settings_of_a_running_broker_stay(raw: RawClient) -> None:
    request = IncrementalAlterConfigsRequest(
        resources=(resource("1", ("log.retention.ms", "5"), kind=4),), validate_only=False
    )
    [found] = raw.ask(request).responses
    assert found.error_code is ErrorCode.invalid_request
    assert "restart it with other options" in found.error_message


def test_access_control_is_refused_as_disabled(kafka: KafkaAddress) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.address})
    every: Any = (ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
    one = (ResourceType.TOPIC, "t", ResourcePatternType.LITERAL, "User:a", "*", AclOperation.READ)
    [created] = admin.create_acls([AclBinding(*one, AclPermissionType.ALLOW)]).values()
    [deleted] = admin.delete_acls([AclBindingFilter(*every)]).values()
    # What librdkafka makes of a refused description is an empty list, on either broker: the Java client checks that one.
    assert admin.describe_acls(AclBindingFilter(*every)).result(60) == []
    for answer in (created, deleted):
        with pytest.raises(KafkaException) as refused:
            answer.result(60)
        assert refused.value.args[0].code() == KafkaError.SECURITY_DISABLED


async def test_our_own_topics_keep_everything(kafka: KafkaAddress) -> None:
    await ensure_topics(KafkaSettings(bootstrap=kafka.address), spread=2)
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for name in TOPICS:
        found = described(admin, name)
        for config, value in (("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "delete")):
            assert (found[config].value, found[config].source) == (value, ConfigSource.DYNAMIC_TOPIC_CONFIG.value)


async def test_configuration_and_start_survive_a_restart(own_broker: BrokerProcess, topic: str) -> None:
    own_broker.settings["retention_check_interval_ms"] = 50
    own_broker.restart()
    await create_topic(own_broker.address, topic)
    place, admin = TopicPartition(topic, 0), AdminClient({"bootstrap.servers": own_broker.address})
    async with aiokafka_producer(own_broker.address, retry_backoff_ms=20) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic, b"old", timestamp_ms=1)
        await asyncio.to_thread(alter, admin, topic, "retention.ms", "3600000", AlterConfigOpType.SET)
        async with aiokafka_consumer(own_broker.address) as consumer:
            await until_it_begins(consumer, place, 3)
        for number in range(3, 6):
            await asyncio.to_thread(own_broker.kill)
            await asyncio.to_thread(own_broker.start)
            # The same idempotent producer, whose earlier batches are all gone.
            assert (await producer.send_and_wait(topic, b"%d" % number)).offset == number
    assert described(admin, topic)["retention.ms"].value == "3600000"
    [kept] = (await read_all(own_broker.address, topic)).values()
    assert [record.offset for record in kept] == [3, 4, 5]
