"""OffsetDelete (KIP-496): forget what a group committed for topics that none of its members reads now."""

import asyncio
from collections.abc import Awaitable

from kio.schema.errors import ErrorCode
from kio.schema.offset_delete.v0.request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from kio.schema.offset_delete.v0.response import (
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.groups.group import Group
from runtide_deploy.broker.groups.offsets import Committed
from runtide_deploy.broker.groups.subscription import is_of_consumers, is_subscribed
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(
    request: OffsetDeleteRequest, context: RequestContext
) -> OffsetDeleteResponse | Awaitable[OffsetDeleteResponse]:
    """Forget the offsets of all partitions for which that is allowed; answered once it is on disk."""
    broker = context.broker
    try:
        group = _group(broker, request.group_id)
        topics = tuple(_judged(broker, group, topic) for topic in request.topics)
        gone = [
            Committed(topic.name, int(partition.partition_index), None)
            for topic in topics
            for partition in topic.partitions
            if partition.error_code is ErrorCode.none
        ]
        stored = broker.groups.offsets.store(request.group_id, gone) if gone else None
    except Refused as refused:
        return OffsetDeleteResponse(error_code=refused.code, throttle_time=NO_THROTTLE, topics=())
    answer = OffsetDeleteResponse(error_code=ErrorCode.none, throttle_time=NO_THROTTLE, topics=topics)
    return answer if stored is None else _when_stored(answer, stored)


def _group(broker: BrokerState, group_id: str) -> Group:
    group = broker.groups.find(group_id)
    if group is None:
        raise Refused(ErrorCode.group_id_not_found, f"there is no group {group_id!r}")
    if not is_of_consumers(group):
        raise Refused(ErrorCode.non_empty_group, f"group {group_id!r} has {len(group.members)} members")
    return group


def _judged(broker: BrokerState, group: Group, topic: OffsetDeleteRequestTopic) -> OffsetDeleteResponseTopic:
    subscribed = is_subscribed(group, topic.name)
    return OffsetDeleteResponseTopic(
        name=topic.name,
        partitions=tuple(
            OffsetDeleteResponsePartition(
                partition_index=partition.partition_index,
                error_code=ErrorCode.group_subscribed_to_topic if subscribed else _code(broker, topic, partition),
            )
            for partition in topic.partitions
        ),
    )


def _code(broker: BrokerState, topic: OffsetDeleteRequestTopic, partition: OffsetDeleteRequestPartition) -> ErrorCode:
    try:
        broker.topics.partition(topic.name, partition.partition_index)
    except Refused as refused:
        return refused.code
    return ErrorCode.none


async def _when_stored(answer: OffsetDeleteResponse, stored: asyncio.Future[None]) -> OffsetDeleteResponse:
    await asyncio.shield(stored)
    return answer
