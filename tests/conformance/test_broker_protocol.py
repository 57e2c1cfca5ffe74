"""The protocol itself: every served version, refusals, and what is no Kafka at all."""

import asyncio
import dataclasses
import datetime
import os
import socket
import time
from collections.abc import Callable
from typing import Any, get_args, get_origin

import pytest
from kio.index import load_request_schema
from kio.schema.api_versions.v4.request import ApiVersionsRequest
from kio.schema.create_topics.v7.request import CreatableTopic, CreateTopicsRequest
from kio.schema.errors import ErrorCode
from kio.schema.fetch.v12.request import FetchPartition, FetchRequest, FetchTopic
from kio.schema.init_producer_id.v5.request import InitProducerIdRequest
from kio.schema.metadata.v12.request import MetadataRequest
from kio.schema.produce.v10.request import PartitionProduceData, ProduceRequest, TopicProduceData
from kio.schema.types import ProducerId, TopicName, TransactionalId
from kio.static.primitive import Records, i16, i32, i32Timedelta, i64

from runtide_deploy.broker.api.table import APIS
from tests.broker_batches import make_batch
from tests.broker_process import BrokerProcess, RawClient, running_broker, wait_until
from tests.kafka_clients import KafkaAddress, create_topic

OLDER_THAN_REMEMBERED = {ErrorCode.duplicate_sequence_number, ErrorCode.out_of_order_sequence_number}
"""Ours says that it has that batch, and clients take it as delivered; Apache Kafka says only that it is out of order."""
NO_TIME = i32Timedelta.parse(datetime.timedelta(0))


def produce(topic: str, *batches: bytes, acks: int = -1, transactional_id: str | None = None) -> ProduceRequest:
    return ProduceRequest(
        transactional_id=None if transactional_id is None else TransactionalId(transactional_id),
        acks=i16(acks),
        timeout=NO_TIME,
        topic_data=(
            TopicProduceData(
                name=TopicName(topic),
                partition_data=tuple(
                    PartitionProduceData(index=i32(number), records=Records(batch))
                    for number, batch in enumerate(batches)
                ),
            ),
        ),
    )


def fetch(topic: str, offset: int = 0, max_bytes: int = 1 << 20, **changes: Any) -> FetchRequest:
    values: dict[str, Any] = {
        "max_wait": NO_TIME,
        "min_bytes": i32(1),
        "topics": (
            FetchTopic(
                topic=TopicName(topic),
                partitions=(
                    FetchPartition(partition=i32(0), fetch_offset=i64(offset), partition_max_bytes=i32(max_bytes)),
                ),
            ),
        ),
        "forgotten_topics_data": (),
    }
    return FetchRequest(**(values | changes))


def outcome(response: Any, partition: int = 0) -> tuple[ErrorCode, int]:
    answer = response.responses[0].partition_responses[partition]
    return answer.error_code, answer.base_offset


def filled(kind: Any, topic: str) -> Any:
    """Return an entity with one element in every list, the topic's name in every text and zeros elsewhere."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        inner = [part for part in get_args(field.type) if part not in {type(None), Ellipsis}]
        element = inner[0] if get_origin(field.type) is not None and inner else field.type
        if get_origin(element) is tuple:
            element = get_args(element)[0]
        is_list = "tuple[" in str(field.type)
        value = filled(element, topic) if dataclasses.is_dataclass(element) else _of_type(field, topic)
        values[field.name] = (value,) if is_list else value
    return kind(**values)


def _of_type(field: Any, topic: str) -> Any:
    if field.name in _FIXED:
        return _FIXED[field.name]
    kafka_type = field.metadata["kafka_type"]
    if kafka_type.startswith("timedelta"):
        return NO_TIME
    return {"string": topic, "bytes": b"", "records": b"", "bool": False, "uuid": None}.get(kafka_type, 0)


_FIXED = {
    "acks": 1,
    "session_epoch": -1,
    "transactional_id": None,
    "group_instance_id": None,
    "fetch_offset": 0,
    "cluster_id": None,
}


@pytest.mark.parametrize(
    ("key", "version"),
    [(api.key, version) for api in APIS.values() for version in range(api.lowest, api.newest + 1)],
)
def test_every_served_version_is_answered_in_its_own_format(raw: RawClient, topic: str, key: int, version: int) -> None:
    creatable = CreatableTopic(
        name=TopicName(topic), num_partitions=i32(1), replication_factor=i16(1), assignments=(), configs=()
    )
    assert raw.ask(CreateTopicsRequest(topics=(creatable,))).topics[0].error_code is ErrorCode.none
    if key != produce("").__api_key__:
        raw.ask(produce(topic, make_batch(b"v")))
    raw.ask(filled(load_request_schema(key, version), topic))


def test_api_versions_names_what_the_table_names(raw: RawClient) -> None:
    answer = raw.ask(ApiVersionsRequest(client_software_name="t", client_software_version="1"))
    assert {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys} == {
        key: (api.lowest, api.newest) for key, api in APIS.items()
    }


def test_an_unknown_version_of_api_versions_is_answered_with_version_0(raw: RawClient) -> None:
    raw.send(ApiVersionsRequest(client_software_name="t", client_software_version="1"), version=99)
    answer = raw.receive(ApiVersionsRequest, version=0)
    assert answer.error_code is ErrorCode.unsupported_version
    assert [(key.api_key, key.min_version, key.max_version) for key in answer.api_keys] == [(18, 0, 4)]
    assert raw.ask(ApiVersionsRequest(client_software_name="t", client_software_version="1")).error_code == 0


def test_answers_come_in_the_order_of_the_requests(raw_kafka: RawClient, topic: str) -> None:
    metadata = MetadataRequest(topics=None, include_topic_authorized_operations=False)
    waits = i32Timedelta.parse(datetime.timedelta(milliseconds=300))
    kinds = [metadata, fetch("no-such-topic"), metadata, fetch(topic, max_wait=waits), metadata]
    sent = [raw_kafka.send(request) for request in kinds]
    got = [int.from_bytes(raw_kafka.receive_frame()[:4], "big") for _ in sent]
    assert got == sent


async def new_producer_id(raw: RawClient) -> Any:
    """Apache Kafka gives out no ids while it is still loading; clients ask again."""
    async with asyncio.timeout(30):
        while True:
            given = raw.ask(InitProducerIdRequest(transactional_id=None, transaction_timeout=NO_TIME))
            if given.error_code is not ErrorCode.coordinator_load_in_progress:
                assert given.error_code is ErrorCode.none
                return given
            await asyncio.sleep(0.05)


async def test_a_batch_sent_again_keeps_its_offset(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    await create_topic(kafka.address, topic)
    given = await new_producer_id(raw_kafka)
    batches = [
        make_batch(b"v%d" % number, producer_id=given.producer_id, epoch=0, sequence=number) for number in range(7)
    ]
    for number, batch in enumerate(batches):
        assert outcome(raw_kafka.ask(produce(topic, batch))) == (ErrorCode.none, number)
    for number in (6, 2, 4):
        assert outcome(raw_kafka.ask(produce(topic, batches[number]))) == (ErrorCode.none, number)
    assert outcome(raw_kafka.ask(produce(topic, batches[0])))[0] in OLDER_THAN_REMEMBERED
    gap = make_batch(b"v", producer_id=given.producer_id, epoch=0, sequence=9)
    assert outcome(raw_kafka.ask(produce(topic, gap)))[0] is ErrorCode.out_of_order_sequence_number
    raised = make_batch(b"v", producer_id=given.producer_id, epoch=1, sequence=0)
    assert outcome(raw_kafka.ask(produce(topic, raised))) == (ErrorCode.none, 7)
    stale = make_batch(b"v", producer_id=given.producer_id, epoch=0, sequence=7)
    assert outcome(raw_kafka.ask(produce(topic, stale)))[0] is ErrorCode.invalid_producer_epoch


async def test_pipelined_batches_are_answered_in_order_and_once(
    kafka: KafkaAddress, topic: str, raw_kafka: RawClient
) -> None:
    await create_topic(kafka.address, topic)
    for _ in range(2):
        for number in range(5):
            raw_kafka.send(produce(topic, make_batch(b"v", producer_id=1 << 50, epoch=0, sequence=number)))
    assert [outcome(raw_kafka.receive(ProduceRequest)) for _ in range(10)] == [
        (ErrorCode.none, n % 5) for n in range(10)
    ]


@pytest.mark.parametrize(
    ("batch", "acks", "transactional_id", "code"),
    [
        (lambda: make_batch(b"v")[:-1] + b"\x01", -1, None, ErrorCode.corrupt_message),
        (lambda: make_batch(bytes(21 << 20)), -1, None, ErrorCode.message_too_large),
        (lambda: make_batch(b"v"), 2, None, ErrorCode.invalid_required_acks),
        (lambda: make_batch(b"v"), -1, "t", ErrorCode.transactional_id_authorization_failed),
        (lambda: b"", -1, None, ErrorCode.corrupt_message),
    ],
    ids=["checksum", "too large", "acks", "transactional", "empty"],
)
async def test_refused_batches(
    broker: BrokerProcess,
    topic: str,
    raw: RawClient,
    batch: Callable[[], bytes],
    acks: int,
    transactional_id: str | None,
    code: ErrorCode,
) -> None:
    await create_topic(broker.address, topic, partitions=2)
    answer = raw.ask(produce(topic, batch(), make_batch(b"good"), acks=acks, transactional_id=transactional_id))
    assert outcome(answer) == (code, -1)
    assert answer.responses[0].partition_responses[0].error_message
    is_about_the_batch = acks == -1 and transactional_id is None
    assert (outcome(answer, 1)[0] is ErrorCode.none) == is_about_the_batch


async def test_a_refused_batch_without_acks_closes_the_connection(
    broker: BrokerProcess, topic: str, raw: RawClient
) -> None:
    raw.send(produce("no-such-topic", make_batch(b"v"), acks=0))
    assert raw.is_closed_by_broker()


def test_producer_ids_are_never_given_twice(broker: BrokerProcess) -> None:
    given = set()
    for _ in range(3):
        client = RawClient(broker.port)
        for _ in range(5):
            answer = client.ask(InitProducerIdRequest(transactional_id=None, transaction_timeout=NO_TIME))
            given.add(answer.producer_id)
        client.close()
        broker.restart()
    assert len(given) == 15


def test_a_transactional_id_is_refused(raw: RawClient) -> None:
    answer = raw.ask(InitProducerIdRequest(transactional_id=TransactionalId("t"), transaction_timeout=NO_TIME))
    assert answer.error_code is ErrorCode.transactional_id_authorization_failed
    assert answer.producer_id == ProducerId(-1)


async def test_fetch_limits(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    await create_topic(kafka.address, topic)
    for number in range(10):
        raw_kafka.ask(produce(topic, make_batch(b"%d" % number * 1000)))
    one = raw_kafka.ask(fetch(topic, offset=3, max_bytes=1)).responses[0].partitions[0]
    assert int.from_bytes(one.records[:8], "big") == 3
    assert 1000 < len(one.records) < 2000
    assert one.high_watermark == one.last_stable_offset == 10
    whole = raw_kafka.ask(fetch(topic)).responses[0].partitions[0]
    assert len(whole.records) == 10 * len(one.records)
    limited = raw_kafka.ask(fetch(topic, max_bytes=3000))
    # Apache Kafka cuts the last batch where the limit falls; clients ignore the rest, and ours does not send it.
    assert 2 * len(one.records) <= len(limited.responses[0].partitions[0].records) <= 3000
    unknown = raw_kafka.ask(fetch(topic, session_id=i32(5), session_epoch=i32(1)))
    assert unknown.error_code is ErrorCode.fetch_session_id_not_found
    outside = raw_kafka.ask(fetch(topic, offset=11)).responses[0].partitions[0]
    assert outside.error_code is ErrorCode.offset_out_of_range


async def test_fetch_sessions_are_offered_to_nobody(broker: BrokerProcess, topic: str, raw: RawClient) -> None:
    await create_topic(broker.address, topic)
    assert raw.ask(fetch(topic, session_epoch=i32(0))).session_id == 0


async def test_fetch_waits_for_the_bytes_asked_for(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    await create_topic(kafka.address, topic)
    raw_kafka.ask(produce(topic, make_batch(b"v")))
    wait = i32Timedelta.parse(datetime.timedelta(milliseconds=200))
    start = time.monotonic()
    answer = raw_kafka.ask(fetch(topic, max_wait=wait, min_bytes=i32(100_000)))
    assert time.monotonic() - start >= 0.19
    assert len(answer.responses[0].partitions[0].records) > 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"\x7f\xff\xff\xff" + bytes(100),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        (20).to_bytes(4, "big") + b"\xff" * 20,
        (20).to_bytes(4, "big") + b"\x00\x03\x00\x0c" + b"\xff" * 16,
        (12).to_bytes(4, "big") + b"\x00\x00\x00\x08" + bytes(8),
        (10).to_bytes(4, "big") + b"\x03\xe7" + bytes(8),
    ],
    ids=["http", "tls", "oversized", "negative", "zero", "random", "bad metadata", "bad produce", "unknown api"],
)
async def test_garbage_closes_that_connection_only(
    broker: BrokerProcess, topic: str, raw: RawClient, data: bytes
) -> None:
    before = broker.log.stat().st_size
    bad = RawClient(broker.port)
    bad.send_bytes(data)
    assert bad.is_closed_by_broker()
    bad.close()
    assert raw.ask(MetadataRequest(topics=None, include_topic_authorized_operations=False)).brokers
    said = broker.log.read_text()[before:]
    assert "closing connection from 127.0.0.1" in said
    assert "Traceback" not in said


def test_random_bytes_never_hurt(broker: BrokerProcess) -> None:
    for size in range(1, 60):
        bad = RawClient(broker.port)
        with bad.socket:
            body = os.urandom(size + 10)
            bad.send_bytes(len(body).to_bytes(4, "big") + bytes([0, size % 61, 0, size % 10]) + body[4:])
    client = RawClient(broker.port)
    assert client.ask(MetadataRequest(topics=None, include_topic_authorized_operations=False)).brokers
    client.close()


def test_connections_are_bounded_and_stalled_ones_closed(tmp_path: Any) -> None:
    with running_broker(
        tmp_path / "data", max_connections=3, stalled_frame_ms=300, idle_connection_ms=100_000
    ) as broker:
        clients = [RawClient(broker.port) for _ in range(3)]
        for client in clients:
            client.ask(MetadataRequest(topics=None, include_topic_authorized_operations=False))
        assert RawClient(broker.port).is_closed_by_broker()
        clients[0].send_bytes(b"\x00\x00\x10\x00 and no more")
        assert clients[0].is_closed_by_broker()
        another = RawClient(broker.port)
        another.ask(MetadataRequest(topics=None, include_topic_authorized_operations=False))
        wait_until(lambda: "in the middle of a request" in broker.log.read_text())


async def test_requests_in_flight_are_bounded_but_all_answered(tmp_path: Any) -> None:
    with running_broker(tmp_path / "data", max_in_flight_requests=2, max_in_flight_bytes=20_000) as broker:
        await create_topic(broker.address, "t")
        clients = [RawClient(broker.port) for _ in range(3)]
        for _ in range(20):
            for client in clients:
                client.send(produce("t", make_batch(os.urandom(9000))))
        for client in clients:
            assert [outcome(client.receive(ProduceRequest))[0] for _ in range(20)] == [ErrorCode.none] * 20


def test_listens_on_loopback_only(broker: BrokerProcess) -> None:
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        if str(address).startswith("127."):
            continue
        with socket.socket() as probe:
            probe.settimeout(1)
            assert probe.connect_ex((address, broker.port)) != 0
