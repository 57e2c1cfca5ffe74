"""OffsetCommit: answered once the offsets are on disk."""

import asyncio
from collections.abc import Awaitable

from kio.schema.errors import ErrorCode
from kio.schema.offset_commit.v8.request import OffsetCommitRequest, OffsetCommitRequestPartition
from kio.schema.offset_commit.v8.response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.groups.coordinator import MemberClaim
from runtide_deploy.broker.groups.offsets import Committed
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(
    request: OffsetCommitRequest, context: RequestContext
) -> OffsetCommitResponse | Awaitable[OffsetCommitResponse]:
    """Store the offsets of the partitions that exist, if the sender may commit for the group."""
    broker = context.broker
    claim = MemberClaim(
        request.group_id, request.member_id, request.group_instance_id, request.generation_id_or_member_epoch
    )
    try:
        broker.groups.check_commit(claim)
        changes, codes = _collect(broker, request)
        stored = broker.groups.offsets.store(request.group_id, changes) if changes else None
    except Refused as refused:
        return _response(request, {}, refused.code)
    answer = _response(request, codes, ErrorCode.none)
    return answer if stored is None else _when_stored(answer, stored)


def _collect(
    broker: BrokerState, request: OffsetCommitRequest
) -> tuple[list[Committed], dict[tuple[str, int], ErrorCode]]:
    changes: list[Committed] = []
    codes: dict[tuple[str, int], ErrorCode] = {}
    for topic in request.topics:
        for partition in topic.partitions:
            try:
                changes.append(_change(broker, topic.name, partition))
            except Refused as refused:
                codes[topic.name, partition.partition_index] = refused.code
    return changes, codes


def _change(broker: BrokerState, topic: str, partition: OffsetCommitRequestPartition) -> Committed:
    broker.topics.partition(topic, partition.partition_index)
    metadata = partition.committed_metadata or ""
    limit = broker.settings.max_offset_metadata_bytes
    if len(metadata.encode()) > limit:
        raise Refused(ErrorCode.offset_metadata_too_large, f"offset metadata is longer than {limit} bytes")
    return Committed(
        topic,
        int(partition.partition_index),
        int(partition.committed_offset),
        int(partition.committed_leader_epoch),
        metadata,
    )


def _response(
    request: OffsetCommitRequest, codes: dict[tuple[str, int], ErrorCode], otherwise: ErrorCode
) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        throttle_time=NO_THROTTLE,
        topics=tuple(
            OffsetCommitResponseTopic(
                name=topic.name,
                partitions=tuple(
                    OffsetCommitResponsePartition(
                        partition_index=partition.partition_index,
                        error_code=codes.get((topic.name, partition.partition_index), otherwise),
                    )
                    for partition in topic.partitions
                ),
            )
            for topic in request.topics
        ),
    )


async def _when_stored(answer: OffsetCommitResponse, stored: asyncio.Future[None]) -> OffsetCommitResponse:
    await asyncio.shield(stored)
    return answer
