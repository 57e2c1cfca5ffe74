"""OffsetFetch for one group (versions up to 7; 8 asks for several groups at once)."""

from collections.abc import Iterable

from kio.schema.errors import ErrorCode
from kio.schema.offset_fetch.v7.request import OffsetFetchRequest
from kio.schema.offset_fetch.v7.response import (
    OffsetFetchResponse,
    OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
)
from kio.schema.types import TopicName
from kio.static.primitive import i32, i64

from runtide_deploy.broker.groups.offsets import Committed, OffsetStore
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

_NOTHING = -1


def handle(request: OffsetFetchRequest, context: RequestContext) -> OffsetFetchResponse:
    """Return what the group committed for the partitions asked for, or for all; -1 where it committed nothing."""
    offsets = context.broker.groups.offsets
    wanted = _everything(offsets, request.group_id) if request.topics is None else _asked(offsets, request)
    return OffsetFetchResponse(
        throttle_time=NO_THROTTLE,
        topics=tuple(
            OffsetFetchResponseTopic(name=topic, partitions=tuple(map(_partition, committed)))
            for topic, committed in wanted
        ),
        error_code=ErrorCode.none,
    )


def _everything(offsets: OffsetStore, group_id: str) -> list[tuple[TopicName, list[Committed]]]:
    by_topic: dict[TopicName, list[Committed]] = {}
    for committed in offsets.of_group(group_id):
        by_topic.setdefault(TopicName(committed.topic), []).append(committed)
    return list(by_topic.items())


def _asked(offsets: OffsetStore, request: OffsetFetchRequest) -> list[tuple[TopicName, Iterable[Committed]]]:
    return [
        (
            topic.name,
            [
                offsets.find(request.group_id, topic.name, number) or Committed(topic.name, number, None)
                for number in topic.partition_indexes
            ],
        )
        for topic in request.topics or ()
    ]


def _partition(committed: Committed) -> OffsetFetchResponsePartition:
    return OffsetFetchResponsePartition(
        partition_index=i32(committed.partition),
        committed_offset=i64(_NOTHING if committed.offset is None else committed.offset),
        committed_leader_epoch=i32(committed.leader_epoch),
        metadata=committed.metadata,
        error_code=ErrorCode.none,
    )
