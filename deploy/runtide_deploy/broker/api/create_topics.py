"""CreateTopics: durable before it is answered."""

from collections import Counter

from kio.schema.create_topics.v7.request import CreatableTopic, CreateTopicsRequest
from kio.schema.create_topics.v7.response import CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse
from kio.schema.errors import ErrorCode
from kio.static.primitive import i8, i16, i32

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

_DEFAULT = -1
_DYNAMIC_TOPIC_CONFIG = 1


def handle(request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
    """Create, or only check, each topic on its own."""
    times = Counter(topic.name for topic in request.topics)
    results = []
    for topic in request.topics:
        try:
            if times[topic.name] > 1:
                raise Refused(ErrorCode.invalid_request, f"topic {topic.name!r} is named twice in one request")
            results.append(_create(context.broker, topic, validate_only=request.validate_only))
        except Refused as refused:
            results.append(_result(topic, refused.code, refused.message))
    return CreateTopicsResponse(throttle_time=NO_THROTTLE, topics=tuple(results))


def _create(broker: BrokerState, topic: CreatableTopic, *, validate_only: bool) -> CreatableTopicResult:
    partitions = _partitions(broker, topic)
    config = {entry.name: entry.value for entry in topic.configs}
    if validate_only:
        broker.topics.check_new(topic.name, partitions, config)
        return _result(topic, ErrorCode.none, None)
    created = broker.topics.create(topic.name, partitions, config)
    return CreatableTopicResult(
        name=topic.name,
        topic_id=created.id,
        error_code=ErrorCode.none,
        error_message=None,
        num_partitions=i32(partitions),
        replication_factor=i16(1),
        configs=tuple(
            CreatableTopicConfigs(
                name=name, value=value, read_only=False, config_source=i8(_DYNAMIC_TOPIC_CONFIG), is_sensitive=False
            )
            for name, value in created.config.items()
        ),
    )


def _partitions(broker: BrokerState, topic: CreatableTopic) -> int:
    if topic.assignments:
        return _assigned_partitions(broker, topic)
    if topic.replication_factor not in {1, _DEFAULT}:
        raise Refused(
            ErrorCode.invalid_replication_factor,
            f"replication factor {topic.replication_factor} is not possible: this is one broker without replication",
        )
    return broker.settings.default_partitions if topic.num_partitions == _DEFAULT else topic.num_partitions


def _assigned_partitions(broker: BrokerState, topic: CreatableTopic) -> int:
    numbers = sorted(assignment.partition_index for assignment in topic.assignments)
    nodes = {assignment.broker_ids for assignment in topic.assignments}
    if topic.num_partitions != _DEFAULT or topic.replication_factor != _DEFAULT:
        raise Refused(ErrorCode.invalid_request, "give either an assignment or numbers of partitions and replicas")
    if numbers != list(range(len(numbers))) or nodes != {(broker.settings.node_id,)}:
        raise Refused(
            ErrorCode.invalid_replica_assignment,
            f"partitions must be numbered from 0 and all lie on broker {broker.settings.node_id}",
        )
    return len(numbers)


def _result(topic: CreatableTopic, code: ErrorCode, message: str | None) -> CreatableTopicResult:
    return CreatableTopicResult(name=topic.name, topic_id=None, error_code=code, error_message=message, configs=())
