"""What librdkafka (confluent-kafka, kcat) does with the broker."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package re-exports them without __all__
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests.broker_process import BrokerProcess, wait_until
from tests.conformance.test_broker_aiokafka import is_at_once
from tests.kafka_clients import KafkaAddress
from tests.kafka_cluster import in_sync

SECONDS = 60.0


@pytest.fixture
def admin(kafka: KafkaAddress) -> Any:
    return AdminClient({"bootstrap.servers": kafka.address})


@pytest.fixture
def made(kafka: KafkaAddress, admin: Any, topic: str) -> str:
    """A topic of two partitions."""
    for done in admin.create_topics([NewTopic(topic, 2, 1, config={"max.message.bytes": str(12 << 20)})]).values():
        done.result(SECONDS)
    wait_until(lambda: in_sync(kafka.address, topic), SECONDS)
    return topic


@pytest.fixture
def consumer(kafka: KafkaAddress, topic: str) -> Iterator[Any]:
    client = Consumer(
        {
            "bootstrap.servers": kafka.address,
            "group.id": f"group-of-{topic}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    yield client
    client.close()


def produce(kafka: KafkaAddress, topic: str, values: list[bytes], **options: Any) -> None:
    producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True, "linger.ms": 2} | options)
    errors: list[Any] = []
    for number, value in enumerate(values):
        producer.produce(
            topic,
            value,
            key=b"k%d" % (number % 7),
            on_delivery=lambda error, _: errors.append(error) if error else None,
        )
    assert producer.flush(SECONDS) == 0
    assert errors == []


def consume(consumer: Any, count: int, seconds: float = SECONDS) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None, message.error()
            found.append(message)
    return found


@pytest.mark.parametrize("codec", ["none", "gzip", "lz4", "snappy", "zstd"])
def test_produce_and_consume_in_a_group(kafka: KafkaAddress, made: str, consumer: Any, codec: str) -> None:
    values = [b"value-%d" % number for number in range(2000)]
    produce(kafka, made, values, **{"compression.type": codec})
    consumer.subscribe([made])
    found = consume(consumer, len(values))
    by_key: dict[bytes, list[bytes]] = {}
    for message in found:
        by_key.setdefault(message.key(), []).append(message.value())
    assert by_key == {b"k%d" % key: values[key::7] for key in range(7)}
    consumer.commit(asynchronous=False)
    places = [TopicPartition(made, number) for number in range(2)]
    ends = [consumer.get_watermark_offsets(place, timeout=SECONDS) for place in places]
    assert [place.offset for place in consumer.committed(places, timeout=SECONDS)] == [high for _, high in ends]


def test_offsets_for_times(kafka: KafkaAddress, made: str, consumer: Any) -> None:
    producer = Producer({"bootstrap.servers": kafka.address})
    for number in range(10):
        producer.produce(made, b"x", partition=1, timestamp=1000 + 100 * number)
    assert producer.flush(SECONDS) == 0
    [found] = consumer.offsets_for_times([TopicPartition(made, 1, 1450)], timeout=SECONDS)
    assert found.offset == 5


def test_a_message_of_ten_megabytes(kafka: KafkaAddress, made: str, consumer: Any) -> None:
    value = os.urandom(10 << 20)
    produce(kafka, made, [value, b"small"], **{"message.max.bytes": 12 << 20})
    consumer.subscribe([made])
    assert sorted(message.value() for message in consume(consumer, 2)) == sorted([value, b"small"])


def test_a_waiting_consumer_gets_a_record_at_once(kafka: KafkaAddress, made: str) -> None:
    options = {"group.id": made, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10_000}
    waiting = Consumer({"bootstrap.servers": kafka.address, "socket.timeout.ms": 60_000, **options})
    producer = Producer({"bootstrap.servers": kafka.address, "linger.ms": 0})
    try:
        waiting.assign([TopicPartition(made, 0, 0)])
        assert waiting.poll(0.5) is None
        delays: list[float] = []
        while not is_at_once(delays):
            start = time.perf_counter()
            producer.produce(made, b"%d" % len(delays), partition=0)
            producer.poll(0)
            assert (waiting.poll(SECONDS) or _nothing()).value() == b"%d" % len(delays)
            delays.append(time.perf_counter() - start)
            assert producer.flush(SECONDS) == 0
    finally:
        waiting.close()


def _nothing() -> Any:
    raise AssertionError(f"nothing within {SECONDS:g} s")


@pytest.mark.parametrize(("reset", "expected"), [("earliest", b"old"), ("latest", b"new"), ("error", None)])
def test_an_offset_out_of_range_is_reset_as_asked(
    kafka: KafkaAddress, made: str, reset: str, expected: bytes | None
) -> None:
    producer = Producer({"bootstrap.servers": kafka.address, "linger.ms": 0})
    producer.produce(made, b"old", partition=0)
    assert producer.flush(SECONDS) == 0
    client = Consumer({"bootstrap.servers": kafka.address, "group.id": made, "auto.offset.reset": reset})
    message = None
    deadline = time.monotonic() + SECONDS
    try:
        client.assign([TopicPartition(made, 0, 1000)])
        while message is None and time.monotonic() < deadline:
            message = client.poll(0.5)
            if message is None:  # nobody says when it has gone to the end; what comes later it must read
                producer.produce(made, b"new", partition=0)
                assert producer.flush(SECONDS) == 0
    finally:
        client.close()
    assert message is not None
    error = message.error()
    if expected is None:
        assert error is not None
        assert error.code() == KafkaError._AUTO_OFFSET_RESET
    else:
        assert (error, message.value()) == (None, expected)


def test_a_transactional_producer_is_refused_for_good(broker: BrokerProcess) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": "t"})
    with pytest.raises(KafkaException) as refused:
        producer.init_transactions(SECONDS)
    error = refused.value.args[0]
    assert error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert not error.retriable()


def test_administration(kafka: KafkaAddress, admin: Any, made: str) -> None:
    assert len(admin.list_topics(timeout=SECONDS).topics[made].partitions) == 2
    admin.create_partitions([NewPartitions(made, 3)])[made].result(SECONDS)
    wait_until(lambda: len(admin.list_topics(made, timeout=SECONDS).topics[made].partitions) == 3, SECONDS)
    [config] = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, made)]).values()
    assert config.result(SECONDS)["cleanup.policy"].value == "delete"
    cluster = admin.describe_cluster().result(SECONDS)
    assert set(kafka.nodes) <= {(node.host, node.port) for node in cluster.nodes}
    admin.delete_topics([made])[made].result(SECONDS)
    wait_until(lambda: made not in admin.list_topics(timeout=SECONDS).topics, SECONDS)


@pytest.mark.parametrize(
    ("partitions", "replicas", "config", "code"),
    [
        (1, 3, {}, KafkaError.INVALID_REPLICATION_FACTOR),
        (0, 1, {}, KafkaError.INVALID_PARTITIONS),
        (100_000, 1, {}, KafkaError.INVALID_PARTITIONS),
        (1, 1, {"cleanup.policy": "compact"}, KafkaError.INVALID_CONFIG),
        (1, 1, {"retention.ms": "-2"}, KafkaError.INVALID_CONFIG),
        (1, 1, {"retention.bytes": "ten"}, KafkaError.INVALID_CONFIG),
        (1, 1, {"segment.bytes": "1000"}, KafkaError.INVALID_CONFIG),
        (1, 1, {"no.such.config": "1"}, KafkaError.INVALID_CONFIG),
    ],
)
def test_what_cannot_be_done_is_refused(
    broker: BrokerProcess, topic: str, partitions: int, replicas: int, config: dict[str, str], code: int
) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    [created] = admin.create_topics([NewTopic(topic, partitions, replicas, config=config)]).values()
    with pytest.raises(KafkaException) as refused:
        created.result(SECONDS)
    assert refused.value.args[0].code() == code


def test_groups_are_listed_described_and_deleted(kafka: KafkaAddress, admin: Any, made: str, consumer: Any) -> None:
    group = f"group-of-{made}"
    produce(kafka, made, [b"x"])
    consumer.subscribe([made])
    consume(consumer, 1)
    consumer.commit(asynchronous=False)
    assert group in [listed.group_id for listed in admin.list_consumer_groups().result(SECONDS).valid]
    described = admin.describe_consumer_groups([group])[group].result(SECONDS)
    assert described.state.name == "STABLE"
    assert len(described.members) == 1
    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups([group])[group].result(SECONDS)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    consumer.unsubscribe()

    def has_left() -> bool:
        consumer.consume(1, 0.05)  # librdkafka leaves while it is polled
        state: str = admin.describe_consumer_groups([group])[group].result(SECONDS).state.name
        return state == "EMPTY"

    wait_until(has_left, SECONDS)
    admin.delete_consumer_groups([group])[group].result(SECONDS)
    assert group not in [listed.group_id for listed in admin.list_consumer_groups().result(SECONDS).valid]


def test_kcat(kafka: KafkaAddress, made: str) -> None:
    kcat = shutil.which("kcat") or shutil.which("kafkacat")
    if kcat is None:
        pytest.skip("kcat is not installed")
    produce(kafka, made, [b"one", b"two"])
    output = subprocess.run(
        [kcat, "-b", kafka.address, "-C", "-t", made, "-o", "beginning", "-e", "-q"],
        capture_output=True,
        check=True,
        timeout=SECONDS,
    ).stdout
    assert sorted(output.split()) == [b"one", b"two"]
