"""ListOffsets: earliest, latest, by timestamp, and the record with the highest timestamp (KIP-734)."""

import asyncio

from kio.schema.errors import ErrorCode
from kio.schema.list_offsets.v7.request import ListOffsetsPartition, ListOffsetsRequest
from kio.schema.list_offsets.v7.response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from kio.static.primitive import i32, i64

from runtide_deploy.broker.errors import DamagedLog, Refused
from runtide_deploy.broker.log.partition_log import PartitionLog
from runtide_deploy.broker.log.time_search import TimedOffset
from runtide_deploy.broker.state import LEADER_EPOCH, BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3
_UNKNOWN = TimedOffset(-1, -1)


async def handle(request: ListOffsetsRequest, context: RequestContext) -> ListOffsetsResponse:
    """Look every partition up; searches by time run in a thread."""
    topics = [
        ListOffsetsTopicResponse(
            name=topic.name,
            partitions=tuple([await _answer(context.broker, topic.name, partition) for partition in topic.partitions]),
        )
        for topic in request.topics
    ]
    return ListOffsetsResponse(throttle_time=NO_THROTTLE, topics=tuple(topics))


async def _answer(broker: BrokerState, topic: str, partition: ListOffsetsPartition) -> ListOffsetsPartitionResponse:
    try:
        log = broker.topics.partition(topic, partition.partition_index)
        found = await _look_up(log, int(partition.timestamp))
    except Refused as refused:
        return ListOffsetsPartitionResponse(partition_index=partition.partition_index, error_code=refused.code)
    return ListOffsetsPartitionResponse(
        partition_index=partition.partition_index,
        error_code=ErrorCode.none,
        timestamp=i64(found.timestamp),
        offset=i64(found.offset),
        leader_epoch=i32(LEADER_EPOCH if found.offset >= 0 else -1),
    )


async def _look_up(log: PartitionLog, timestamp: int) -> TimedOffset:
    log.check_served()
    if timestamp == LATEST:
        return TimedOffset(log.high_watermark, -1)
    if timestamp == EARLIEST:
        return TimedOffset(log.start_offset, -1)
    if timestamp < MAX_TIMESTAMP:
        raise Refused(ErrorCode.unsupported_version, f"special timestamp {timestamp} is not supported")
    search = log.plan_newest() if timestamp == MAX_TIMESTAMP else log.plan_search(timestamp)
    try:
        return await asyncio.to_thread(search.run) or _UNKNOWN
    except DamagedLog as damage:
        raise log.refused_damage(damage) from damage
