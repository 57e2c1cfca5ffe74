"""DeleteRecords (KIP-107): a partition's start moves up to an offset; what lies below is not served any more."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Final, NamedTuple

from kio.schema.delete_records.v2.request import DeleteRecordsRequest
from kio.schema.delete_records.v2.response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from kio.schema.errors import ErrorCode
from kio.schema.types import TopicName
from kio.static.primitive import i32, i64

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.log.partition_log import PartitionLog
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

HIGH_WATERMARK: Final = -1
_UNKNOWN: Final = -1


class _Move(NamedTuple):
    """What is wanted of one partition; without a log the code says why nothing is done."""

    number: i32
    log: PartitionLog | None = None
    offset: int = 0
    code: ErrorCode = ErrorCode.none


def handle(request: DeleteRecordsRequest, context: RequestContext) -> Awaitable[DeleteRecordsResponse]:
    """Move each partition's start on its own, durably; whole segments below it go with the next look of retention.

    Each move is a sync of its own, and others have their turn between two, however many a request asks for. What is
    meant is settled before: which logs these are, and where they end now. Beyond that the order of moves does not
    matter, because starts move up only.
    """
    times = Counter((topic.name, one.partition_index) for topic in request.topics for one in topic.partitions)
    moves: list[tuple[TopicName, list[_Move]]] = [(topic.name, []) for topic in request.topics]
    for topic, (name, settled) in zip(request.topics, moves, strict=True):
        for one in topic.partitions:
            is_twice = times[name, one.partition_index] > 1
            settled.append(
                _Move(one.partition_index, code=ErrorCode.invalid_request)
                if is_twice
                else _settle(context.broker, name, one.partition_index, one.offset)
            )
    return _answer(moves)


def _settle(broker: BrokerState, topic: str, number: i32, offset: int) -> _Move:
    try:
        log = broker.topics.partition(topic, number)
    except Refused as refused:
        return _Move(number, code=refused.code)
    return _Move(number, log, log.high_watermark if offset == HIGH_WATERMARK else offset)


async def _answer(moves: list[tuple[TopicName, list[_Move]]]) -> DeleteRecordsResponse:
    topics = []
    for name, wanted in moves:
        results = []
        for move in wanted:
            results.append(_delete(move))
            await asyncio.sleep(0)
        topics.append(DeleteRecordsTopicResult(name=name, partitions=tuple(results)))
    return DeleteRecordsResponse(throttle_time=NO_THROTTLE, topics=tuple(topics))


def _delete(move: _Move) -> DeleteRecordsPartitionResult:
    code, start = move.code, _UNKNOWN
    if move.log is not None:
        try:
            move.log.delete_records(move.offset)
            start = move.log.start_offset
        except Refused as refused:
            code = refused.code
    return DeleteRecordsPartitionResult(partition_index=move.number, low_watermark=i64(start), error_code=code)
