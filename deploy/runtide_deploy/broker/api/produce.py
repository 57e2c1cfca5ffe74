"""Produce: acks=0 is never answered, acks=1 after the write, acks=all after the group commit that stores it."""

import asyncio
from collections.abc import Awaitable

from kio.schema.errors import ErrorCode
from kio.schema.produce.v10.request import PartitionProduceData, ProduceRequest, TopicProduceData
from kio.schema.produce.v10.response import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from kio.static.primitive import i64

from runtide_deploy.broker.errors import MalformedRequest, Refused
from runtide_deploy.broker.log.partition_log import Appended
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1
_NO_OFFSET = i64(-1)


def handle(request: ProduceRequest, context: RequestContext) -> ProduceResponse | Awaitable[ProduceResponse] | None:
    """Append every partition's batch at once; wait for the disk only when the client asked for it.

    Raises:
        MalformedRequest: a batch with acks=0 was refused; closing the connection is all that can tell the client.
    """
    waits: set[asyncio.Future[None]] = set()
    topics = tuple(
        TopicProduceResponse(
            name=topic.name,
            partition_responses=tuple(
                _append(context.broker, request, topic, partition, waits) for partition in topic.partition_data
            ),
        )
        for topic in request.topic_data
    )
    response = ProduceResponse(responses=topics, throttle_time=NO_THROTTLE)
    if request.acks == ACKS_NONE:
        _close_on_error(response)
        return None
    return _when_stored(response, waits) if waits and request.acks == ACKS_ALL else response


def _append(
    broker: BrokerState,
    request: ProduceRequest,
    topic: TopicProduceData,
    partition: PartitionProduceData,
    waits: set[asyncio.Future[None]],
) -> PartitionProduceResponse:
    try:
        appended = _append_checked(broker, request, topic.name, partition)
    except Refused as refused:
        return PartitionProduceResponse(
            index=partition.index,
            error_code=refused.code,
            base_offset=_NO_OFFSET,
            record_errors=(),
            error_message=refused.message,
        )
    if appended.stored is not None:
        waits.add(appended.stored)
    return PartitionProduceResponse(
        index=partition.index,
        error_code=ErrorCode.none,
        base_offset=i64(appended.base_offset),
        log_start_offset=i64(broker.topics.partition(topic.name, partition.index).start_offset),
        record_errors=(),
    )


def _append_checked(
    broker: BrokerState, request: ProduceRequest, topic: str, partition: PartitionProduceData
) -> Appended:
    if request.transactional_id is not None:
        raise Refused(
            ErrorCode.transactional_id_authorization_failed,
            "this broker has no transactions; use Apache Kafka for transactional producers",
        )
    if request.acks not in {ACKS_NONE, ACKS_LEADER, ACKS_ALL}:
        raise Refused(ErrorCode.invalid_required_acks, f"acks={request.acks}: use 0, 1 or -1 (all)")
    log = broker.topics.partition(topic, partition.index)
    found = broker.topics.find(topic)
    limit = broker.settings.max_message_bytes
    return log.append(partition.records or b"", found.max_message_bytes(limit) if found else limit)


def _close_on_error(response: ProduceResponse) -> None:
    for topic in response.responses:
        for partition in topic.partition_responses:
            if partition.error_code is not ErrorCode.none:
                raise MalformedRequest(
                    f"produce with acks=0 to {topic.name}-{partition.index} was refused: {partition.error_message}"
                )


async def _when_stored(response: ProduceResponse, waits: set[asyncio.Future[None]]) -> ProduceResponse:
    for stored in waits:
        await asyncio.shield(stored)
    return response
