"""DescribeConfigs: a topic's configuration in force, and the broker's settings by Kafka's names."""

from collections.abc import Mapping

from kio.schema.describe_configs.v4.request import DescribeConfigsRequest, DescribeConfigsResource
from kio.schema.describe_configs.v4.response import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
)
from kio.schema.errors import ErrorCode
from kio.static.primitive import i8

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.settings import BrokerSettings
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.topic_config import DEFAULTS
from runtide_deploy.broker.wire.codec import NO_THROTTLE

TOPIC, BROKER = 2, 4
_FROM_TOPIC, _FROM_BROKER, _DEFAULT = i8(1), i8(4), i8(5)


def handle(request: DescribeConfigsRequest, context: RequestContext) -> DescribeConfigsResponse:
    """Describe each resource on its own."""
    return DescribeConfigsResponse(
        throttle_time=NO_THROTTLE,
        results=tuple(_describe(context.broker, resource) for resource in request.resources),
    )


def _describe(broker: BrokerState, resource: DescribeConfigsResource) -> DescribeConfigsResult:
    code, message = ErrorCode.none, None
    entries: list[DescribeConfigsResourceResult] = []
    try:
        entries = _topic(broker, resource) if resource.resource_type == TOPIC else _broker(broker, resource)
    except Refused as refused:
        code, message = refused.code, refused.message
    # Null, and the empty list that old clients send, both mean every entry.
    wanted = resource.configuration_keys or ()
    return DescribeConfigsResult(
        error_code=code,
        error_message=message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=tuple(entry for entry in entries if not wanted or entry.name in wanted),
    )


def _topic(broker: BrokerState, resource: DescribeConfigsResource) -> list[DescribeConfigsResourceResult]:
    topic = broker.topics.find(resource.resource_name)
    if topic is None:
        raise Refused(ErrorCode.unknown_topic_or_partition, f"there is no topic {resource.resource_name!r}")
    in_force = {"max.message.bytes": str(broker.settings.max_message_bytes), **DEFAULTS, **topic.config}
    return [_entry(name, value, _FROM_TOPIC if name in topic.config else _DEFAULT) for name, value in in_force.items()]


def _broker(broker: BrokerState, resource: DescribeConfigsResource) -> list[DescribeConfigsResourceResult]:
    if resource.resource_type != BROKER or resource.resource_name != str(broker.settings.node_id):
        raise Refused(
            ErrorCode.invalid_request,
            f"resource type {resource.resource_type} {resource.resource_name!r}: describe a topic (2) "
            f"or broker (4) {broker.settings.node_id}",
        )
    return [_entry(name, value, _FROM_BROKER) for name, value in _broker_configs(broker.settings).items()]


def _broker_configs(settings: BrokerSettings) -> Mapping[str, str]:
    return {
        "message.max.bytes": str(settings.max_message_bytes),
        "socket.request.max.bytes": str(settings.max_request_bytes),
        "num.partitions": str(settings.default_partitions),
        "default.replication.factor": "1",
        "auto.create.topics.enable": str(settings.auto_create_topics).lower(),
        "log.segment.bytes": str(settings.segment_bytes),
        "log.retention.ms": "-1",
        "log.dirs": str(settings.data),
        "group.min.session.timeout.ms": str(settings.min_session_timeout_ms),
        "group.max.session.timeout.ms": str(settings.max_session_timeout_ms),
    }


def _entry(name: str, value: str, source: i8) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=name,
        value=value,
        read_only=True,
        config_source=source,
        is_sensitive=False,
        synonyms=(),
        documentation=None,
    )
