"""Consumer groups: members join, leave and die; offsets survive."""

import asyncio
import dataclasses
import datetime
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition
from kio.schema.errors import ErrorCode
from kio.schema.heartbeat.v4.request import HeartbeatRequest
from kio.schema.join_group.v9.request import JoinGroupRequest, JoinGroupRequestProtocol
from kio.schema.leave_group.v5.request import LeaveGroupRequest, MemberIdentity
from kio.schema.offset_commit.v8.request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kio.schema.offset_delete.v0.request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from kio.schema.sync_group.v5.request import SyncGroupRequest, SyncGroupRequestAssignment
from kio.schema.types import GroupId, TopicName
from kio.static.primitive import i32, i32Timedelta, i64

from tests.broker_process import BrokerProcess, RawClient
from tests.kafka_clients import SHORT_SESSION_MS, KafkaAddress, aiokafka_consumer, aiokafka_producer, create_topic

PARTITIONS = 6
PATIENT_SESSION_MS = 15_000
"""On a loaded machine a member may be late with its heartbeat; whoever is put out of its group reads records twice."""


class GroupMembers:
    """Members of one group, each reading in the background as an application would."""

    def __init__(self, address: str, topic: str, stack: AsyncExitStack) -> None:
        self._address = address
        self._topic = topic
        self._stack = stack
        self.seen: list[bytes] = []

    async def add(self, session_ms: int = PATIENT_SESSION_MS) -> Any:
        consumer = await self._stack.enter_async_context(
            aiokafka_consumer(
                self._address,
                self._topic,
                group_id=f"group-of-{self._topic}",
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=200,
            )
        )
        reader = asyncio.create_task(self._read(consumer))
        self._stack.callback(reader.cancel)
        return consumer

    async def _read(self, consumer: Any) -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                self.seen += [record.value for record in records]


@asynccontextmanager
async def group_members(broker: KafkaAddress | BrokerProcess, topic: str) -> AsyncIterator[GroupMembers]:
    await create_topic(broker.address, topic, partitions=PARTITIONS)
    async with AsyncExitStack() as stack:
        yield GroupMembers(broker.address, topic, stack)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.05)


def shares(*consumers: Any) -> list[int]:
    """How many partitions each has, once together they have each exactly once; else nothing."""
    owned = [place.partition for consumer in consumers for place in consumer.assignment()]
    return sorted(len(c.assignment()) for c in consumers) if sorted(owned) == list(range(PARTITIONS)) else []


async def test_members_share_the_partitions_as_they_come_and_go(kafka: KafkaAddress, topic: str) -> None:
    async with group_members(kafka, topic) as members:
        first = await members.add()
        await until(lambda: shares(first) == [6])
        second, third = await members.add(), await members.add()
        await until(lambda: shares(first, second, third) == [2, 2, 2])
        async with aiokafka_producer(kafka.address) as producer:
            for number in range(60):
                await producer.send(topic, b"%d" % number, partition=number % PARTITIONS)
        await until(lambda: len(members.seen) >= 60)
        assert sorted(members.seen) == sorted(b"%d" % number for number in range(60))
        await second.stop()
        await until(lambda: shares(first, third) == [3, 3])


async def test_members_that_start_together_get_one_generation(kafka: KafkaAddress, topic: str) -> None:
    async with group_members(kafka, topic) as members:
        consumers = await asyncio.gather(*(members.add() for _ in range(3)))
        await until(lambda: shares(*consumers) == [2, 2, 2])


_MEMBER = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer

async def main(address, topic, session_ms):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, group_id="group-of-" + topic,
                                session_timeout_ms=int(session_ms), heartbeat_interval_ms=200)
    await consumer.start()
    while not consumer.assignment():
        await consumer.getmany(timeout_ms=100)
    print("joined", flush=True)
    while True:
        await consumer.getmany(timeout_ms=100)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_member_that_is_killed_is_replaced_after_its_session(kafka: KafkaAddress, topic: str) -> None:
    async with group_members(kafka, topic) as members:
        alive = await members.add()
        await until(lambda: shares(alive) == [6])
        doomed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _MEMBER, kafka.address, topic, str(SHORT_SESSION_MS), stdout=asyncio.subprocess.PIPE
        )
        assert doomed.stdout is not None
        assert await asyncio.wait_for(doomed.stdout.readline(), 60) == b"joined\n"
        await until(lambda: len(alive.assignment()) == 3)
        doomed.kill()
        await doomed.wait()
        start = time.monotonic()
        await until(lambda: shares(alive) == [6])
        # Not at once, when its connection broke. How long ago its last heartbeat was by then is the machine's doing.
        assert time.monotonic() - start > SHORT_SESSION_MS / 1000 / 8


async def test_committed_offsets_survive_stop_and_kill(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic, partitions=2)
    async with aiokafka_producer(own_broker.address) as producer:
        for number in range(20):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 2)
    places = [TopicPartition(topic, number) for number in range(2)]
    for end, offset in ((own_broker.stop, 3), (own_broker.kill, 7)):
        async with aiokafka_consumer(own_broker.address, group_id="g") as consumer:
            consumer.assign(places)
            await consumer.commit({places[0]: offset, places[1]: offset + 1})
        end()
        own_broker.start()
        async with aiokafka_consumer(own_broker.address, group_id="g") as consumer:
            consumer.assign(places)
            assert [await consumer.committed(place) for place in places] == [offset, offset + 1]
            assert (await asyncio.wait_for(consumer.getone(places[0]), 60)).offset == offset


async def test_a_group_goes_on_after_the_broker_was_killed(own_broker: BrokerProcess, topic: str) -> None:
    async with group_members(own_broker, topic) as members:
        first, second = await members.add(), await members.add()
        await until(lambda: shares(first, second) == [3, 3])
        own_broker.kill()
        own_broker.start()
        await until(lambda: shares(first, second) == [3, 3])
        async with aiokafka_producer(own_broker.address) as producer:
            for number in range(PARTITIONS):
                await producer.send_and_wait(topic, b"%d" % number, partition=number)
        await until(lambda: sorted(set(members.seen)) == sorted(b"%d" % n for n in range(PARTITIONS)), 60)


# The rest speaks the protocol itself, because clients hide these answers.


def seconds(value: float) -> i32Timedelta:
    return i32Timedelta.parse(datetime.timedelta(seconds=value))


def join_request(group: str, member_id: str = "", instance_id: str | None = None, **changes: Any) -> JoinGroupRequest:
    values: dict[str, Any] = {
        "group_id": GroupId(group),
        "session_timeout": seconds(10),
        "rebalance_timeout": seconds(10),
        "member_id": member_id,
        "group_instance_id": instance_id,
        "protocol_type": "consumer",
        "protocols": (JoinGroupRequestProtocol(name="range", metadata=b"m"),),
    }
    return JoinGroupRequest(**(values | changes))


NO_COORDINATOR_YET = {ErrorCode.coordinator_load_in_progress, ErrorCode.coordinator_not_available}


def joined(raw: RawClient, group: str, instance_id: str | None = None) -> tuple[str, int]:
    """Join as the only member and take the assignment; return member id and generation."""
    answer = raw.ask(join_request(group, instance_id=instance_id))
    deadline = time.monotonic() + 30
    while answer.error_code in NO_COORDINATOR_YET and time.monotonic() < deadline:
        answer = raw.ask(join_request(group, instance_id=instance_id))
    if instance_id is None:
        assert answer.error_code is ErrorCode.member_id_required
        answer = raw.ask(join_request(group, answer.member_id))
    assert answer.error_code is ErrorCode.none
    assert answer.leader == answer.member_id
    synced = raw.ask(sync_request(group, answer.member_id, answer.generation_id, instance_id))
    assert (synced.error_code, synced.assignment) == (ErrorCode.none, b"yours")
    return answer.member_id, answer.generation_id


def sync_request(group: str, member_id: str, generation: int, instance_id: str | None = None) -> SyncGroupRequest:
    return SyncGroupRequest(
        group_id=GroupId(group),
        generation_id=i32(generation),
        member_id=member_id,
        group_instance_id=instance_id,
        protocol_type="consumer",
        protocol_name="range",
        assignments=(SyncGroupRequestAssignment(member_id=member_id, assignment=b"yours"),),
    )


def heartbeat(raw: RawClient, group: str, member_id: str, generation: int, instance_id: str | None = None) -> ErrorCode:
    answer: ErrorCode = raw.ask(
        HeartbeatRequest(
            group_id=GroupId(group), generation_id=i32(generation), member_id=member_id, group_instance_id=instance_id
        )
    ).error_code
    return answer


def commit(raw: RawClient, group: str, topic: str, member_id: str, generation: int, partition: int = 0) -> ErrorCode:
    answer = raw.ask(
        OffsetCommitRequest(
            group_id=GroupId(group),
            generation_id_or_member_epoch=i32(generation),
            member_id=member_id,
            topics=(
                OffsetCommitRequestTopic(
                    name=TopicName(topic),
                    partitions=(
                        OffsetCommitRequestPartition(
                            partition_index=i32(partition), committed_offset=i64(1), committed_metadata=None
                        ),
                    ),
                ),
            ),
        )
    )
    code: ErrorCode = answer.topics[0].partitions[0].error_code
    return code


async def test_only_members_of_this_generation_are_heard(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    await create_topic(kafka.address, topic)
    member_id, generation = joined(raw_kafka, topic)
    assert heartbeat(raw_kafka, topic, member_id, generation) is ErrorCode.none
    assert heartbeat(raw_kafka, topic, member_id, generation - 1) is ErrorCode.illegal_generation
    assert heartbeat(raw_kafka, topic, "stranger", generation) is ErrorCode.unknown_member_id
    assert heartbeat(raw_kafka, "no-such-group", member_id, generation) is ErrorCode.unknown_member_id
    assert commit(raw_kafka, topic, topic, member_id, generation) is ErrorCode.none
    assert commit(raw_kafka, topic, topic, member_id, generation - 1) is ErrorCode.illegal_generation
    assert commit(raw_kafka, topic, topic, "", -1) is ErrorCode.unknown_member_id
    assert commit(raw_kafka, topic, topic, member_id, generation, partition=9) is ErrorCode.unknown_topic_or_partition
    left = raw_kafka.ask(LeaveGroupRequest(group_id=GroupId(topic), members=(MemberIdentity(member_id=member_id),)))
    assert left.members[0].error_code is ErrorCode.none
    assert heartbeat(raw_kafka, topic, member_id, generation) is ErrorCode.unknown_member_id
    assert commit(raw_kafka, topic, topic, "", -1) is ErrorCode.none


def test_a_second_member_makes_the_first_join_again(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    member_id, generation = joined(raw_kafka, topic)
    other = RawClient(kafka.port, kafka.host)
    other_id = other.ask(join_request(topic)).member_id
    other.send(join_request(topic, other_id))
    deadline = time.monotonic() + 30
    while heartbeat(raw_kafka, topic, member_id, generation) is ErrorCode.none:
        assert time.monotonic() < deadline
    assert heartbeat(raw_kafka, topic, member_id, generation) is ErrorCode.rebalance_in_progress
    assert raw_kafka.ask(sync_request(topic, member_id, generation)).error_code is ErrorCode.rebalance_in_progress
    again = raw_kafka.ask(join_request(topic, member_id))
    assert again.error_code is ErrorCode.none
    assert again.generation_id == generation + 1
    assert {member.member_id for member in again.members} == {member_id, other_id}
    followed = other.receive(JoinGroupRequest)
    assert (followed.error_code, followed.leader, followed.members) == (ErrorCode.none, member_id, ())
    other.close()


def test_a_static_member_comes_back_without_a_rebalance(kafka: KafkaAddress, topic: str, raw_kafka: RawClient) -> None:
    member_id, generation = joined(raw_kafka, topic, instance_id="i1")
    again = raw_kafka.ask(join_request(topic, instance_id="i1"))
    assert again.error_code is ErrorCode.none
    assert again.generation_id == generation
    assert again.member_id != member_id
    synced = raw_kafka.ask(sync_request(topic, again.member_id, generation, "i1"))
    assert synced.assignment == b"yours"
    assert heartbeat(raw_kafka, topic, member_id, generation, "i1") is ErrorCode.fenced_instance_id
    assert heartbeat(raw_kafka, topic, again.member_id, generation, "i1") is ErrorCode.none


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"group_id": GroupId("")}, ErrorCode.invalid_group_id),
        ({"session_timeout": seconds(0.001)}, ErrorCode.invalid_session_timeout),
        ({"session_timeout": seconds(1_000_000)}, ErrorCode.invalid_session_timeout),
        ({"protocols": ()}, ErrorCode.inconsistent_group_protocol),
        ({"protocol_type": ""}, ErrorCode.inconsistent_group_protocol),
        ({"member_id": "stranger"}, ErrorCode.unknown_member_id),
    ],
)
def test_refused_joins(raw_kafka: RawClient, topic: str, changes: dict[str, Any], code: ErrorCode) -> None:
    assert raw_kafka.ask(join_request(topic, **changes)).error_code is code


def test_no_assignor_in_common(raw_kafka: RawClient, topic: str) -> None:
    joined(raw_kafka, topic)
    other = (JoinGroupRequestProtocol(name="other", metadata=b""),)
    assert raw_kafka.ask(join_request(topic, protocols=other)).error_code is ErrorCode.inconsistent_group_protocol


def delete_offset(raw: RawClient, group: str, topic: str, partition: int = 0) -> ErrorCode:
    places = (OffsetDeleteRequestPartition(partition_index=i32(partition)),)
    answer = raw.ask(
        OffsetDeleteRequest(
            group_id=GroupId(group), topics=(OffsetDeleteRequestTopic(name=TopicName(topic), partitions=places),)
        )
    )
    code: ErrorCode = answer.topics[0].partitions[0].error_code if answer.topics else answer.error_code
    return code


async def test_offsets_are_deleted_unless_a_member_reads_the_topic(
    kafka: KafkaAddress, topic: str, raw_kafka: RawClient
) -> None:
    other = f"{topic}-other"
    await create_topic(kafka.address, topic)
    await create_topic(kafka.address, other)
    places = [TopicPartition(name, 0) for name in (topic, other)]
    assert delete_offset(raw_kafka, "no-such-group", topic) is ErrorCode.group_id_not_found
    async with aiokafka_consumer(kafka.address, topic, group_id=topic, heartbeat_interval_ms=200) as consumer:
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=100)
        await consumer.commit({places[0]: 3})
        assert delete_offset(raw_kafka, topic, topic) is ErrorCode.group_subscribed_to_topic
        assert delete_offset(raw_kafka, topic, other) is ErrorCode.none
        assert delete_offset(raw_kafka, topic, other, 9) is ErrorCode.unknown_topic_or_partition
        assert await consumer.committed(places[0]) == 3
    async with aiokafka_consumer(kafka.address, group_id=topic) as consumer:
        consumer.assign(places)
        await consumer.commit({places[0]: 4, places[1]: 5})
        assert delete_offset(raw_kafka, topic, topic) is ErrorCode.none
        assert [await consumer.committed(place) for place in places] == [None, 5]
    assert delete_offset(raw_kafka, topic, other) is ErrorCode.none
    assert delete_offset(raw_kafka, topic, other) in {ErrorCode.group_id_not_found, ErrorCode.none}


async def test_deleted_offsets_stay_deleted_after_a_kill(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic, partitions=2)
    places = [TopicPartition(topic, number) for number in range(2)]
    async with aiokafka_consumer(own_broker.address, group_id="g") as consumer:
        consumer.assign(places)
        await consumer.commit({places[0]: 1, places[1]: 2})
    client = RawClient(own_broker.port)
    assert delete_offset(client, "g", topic) is ErrorCode.none
    client.close()
    own_broker.kill()
    own_broker.start()
    async with aiokafka_consumer(own_broker.address, group_id="g") as consumer:
        consumer.assign(places)
        assert [await consumer.committed(place) for place in places] == [None, 2]


def test_a_member_must_say_which_protocol_it_follows(raw_kafka: RawClient, topic: str) -> None:
    group = f"group-of-{topic}"
    member_id, generation = joined(raw_kafka, group)
    asked = sync_request(group, member_id, generation)
    nameless = (dataclasses.replace(asked, protocol_type=None), dataclasses.replace(asked, protocol_name=None))
    for request in nameless:
        assert raw_kafka.ask(request).error_code is ErrorCode.inconsistent_group_protocol
    assert raw_kafka.ask(asked).error_code is ErrorCode.none
