"""Metadata: brokers, topics, partitions. Versions 0 to 12."""

from typing import Any, Final

from kio.schema.errors import ErrorCode
from kio.schema.metadata.v10.response import MetadataResponse as MetadataResponseV10
from kio.schema.metadata.v12.request import MetadataRequest, MetadataRequestTopic
from kio.schema.metadata.v12.response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from kio.schema.types import BrokerId, TopicName
from kio.static.primitive import i32

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import LEADER_EPOCH, BrokerState, RequestContext
from runtide_deploy.broker.topics import Topic
from runtide_deploy.broker.wire.codec import NO_THROTTLE

_LAST_WITH_CLUSTER_OPERATIONS: Final = 10


def handle(request: MetadataRequest, context: RequestContext) -> MetadataResponse | MetadataResponseV10:
    """Describe the one broker and the topics asked for, or all."""
    broker = context.broker
    node = BrokerId(broker.settings.node_id)
    # Version 0 had no null: an empty list meant all topics, as null does since version 1.
    wants_all = request.topics is None or (context.version == 0 and not request.topics)
    topics = (
        [_describe(topic, node) for topic in broker.topics]
        if wants_all
        else [
            _find_or_create(broker, asked, node, may_create=request.allow_auto_topic_creation)
            for asked in request.topics or ()
        ]
    )
    # Versions 8 to 10 end with a field that was dropped later: they need their own type at the top.
    response: type[Any] = MetadataResponse if context.version > _LAST_WITH_CLUSTER_OPERATIONS else MetadataResponseV10
    answer: MetadataResponse | MetadataResponseV10 = response(
        throttle_time=NO_THROTTLE,
        brokers=(MetadataResponseBroker(node_id=node, host=broker.host, port=i32(broker.port)),),
        cluster_id=broker.directory.cluster_id,
        controller_id=node,
        topics=tuple(topics),
    )
    return answer


def _find_or_create(
    broker: BrokerState, asked: MetadataRequestTopic, node: BrokerId, *, may_create: bool
) -> MetadataResponseTopic:
    if asked.name is None:
        by_id = broker.topics.find_by_id(asked.topic_id) if asked.topic_id is not None else None
        return _refuse(asked, ErrorCode.unknown_topic_id) if by_id is None else _describe(by_id, node)
    topic = broker.topics.find(asked.name)
    if topic is not None:
        return _describe(topic, node)
    if not (may_create and broker.settings.auto_create_topics):
        return _refuse(asked, ErrorCode.unknown_topic_or_partition)
    try:
        return _describe(broker.topics.create(asked.name, broker.settings.default_partitions, {}), node)
    except Refused as refused:
        return _refuse(asked, refused.code)


def _refuse(asked: MetadataRequestTopic, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=code, name=asked.name, topic_id=asked.topic_id, partitions=())


def _describe(topic: Topic, node: BrokerId) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=ErrorCode.none,
        name=TopicName(topic.name),
        topic_id=topic.id,
        partitions=tuple(
            MetadataResponsePartition(
                error_code=ErrorCode.none,
                partition_index=i32(number),
                leader_id=node,
                leader_epoch=i32(LEADER_EPOCH),
                replica_nodes=(node,),
                isr_nodes=(node,),
            )
            for number in range(len(topic.partitions))
        ),
    )
