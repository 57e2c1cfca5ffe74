"""Metadata: brokers, topics, partitions. Versions 0 to 10; later ones only drop fields and add lookup by topic id."""

from kio.schema.errors import ErrorCode
from kio.schema.metadata.v10.request import MetadataRequest
from kio.schema.metadata.v10.response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from kio.schema.types import BrokerId, TopicName
from kio.static.primitive import i32

from runtide_deploy.broker.api.registration import Api
from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import LEADER_EPOCH, BrokerState, RequestContext
from runtide_deploy.broker.topics import Topic
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: MetadataRequest, context: RequestContext) -> MetadataResponse:
    """Describe the one broker and the topics asked for, or all."""
    broker = context.broker
    node = BrokerId(broker.settings.node_id)
    # Version 0 had no null: an empty list meant all topics, as null does since version 1.
    wants_all = request.topics is None or (context.version == 0 and not request.topics)
    topics = (
        [_describe(topic, node) for topic in broker.topics]
        if wants_all
        else [
            _find_or_create(broker, asked.name, node, may_create=request.allow_auto_topic_creation)
            for asked in request.topics or ()
        ]
    )
    return MetadataResponse(
        throttle_time=NO_THROTTLE,
        brokers=(MetadataResponseBroker(node_id=node, host=broker.host, port=i32(broker.port)),),
        cluster_id=broker.directory.cluster_id,
        controller_id=node,
        topics=tuple(topics),
    )


def _find_or_create(
    broker: BrokerState, name: TopicName | None, node: BrokerId, *, may_create: bool
) -> MetadataResponseTopic:
    topic = broker.topics.find(name or "")
    if topic is not None:
        return _describe(topic, node)
    if name is None or not (may_create and broker.settings.auto_create_topics):
        return _refuse(name, ErrorCode.unknown_topic_or_partition)
    try:
        return _describe(broker.topics.create(name, broker.settings.default_partitions, {}), node)
    except Refused as refused:
        return _refuse(name, refused.code)


def _refuse(name: TopicName | None, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=code, name=name or TopicName(""), topic_id=None, partitions=())


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


API = Api(3, lowest=0, newest=10, handle=handle)
