"""DescribeConfigs: a topic's configuration in force, and the broker's settings by Kafka's names."""

from collections.abc import Mapping

from kio.schema.describe_configs.v4.request import DescribeConfigsRequest, DescribeConfigsResource
from kio.schema.describe_configs.v4.response import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from kio.schema.errors import ErrorCode
from kio.static.primitive import i8

from runtide_deploy.broker.api.config_resources import BROKER, TOPIC
from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.settings import BrokerSettings
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.topic_config import CONFIGS, ConfigSource, ConfigValue, TopicConfig, values_of
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: DescribeConfigsRequest, context: RequestContext) -> DescribeConfigsResponse:
    """Describe each resource on its own."""
    return DescribeConfigsResponse(
        throttle_time=NO_THROTTLE,
        results=tuple(_describe(context.broker, resource, request) for resource in request.resources),
    )


def _describe(
    broker: BrokerState, resource: DescribeConfigsResource, request: DescribeConfigsRequest
) -> DescribeConfigsResult:
    code, message = ErrorCode.none, None
    entries: list[DescribeConfigsResourceResult] = []
    try:
        entries = _topic(broker, resource, request) if resource.resource_type == TOPIC else _broker(broker, resource)
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


def _topic(
    broker: BrokerState, resource: DescribeConfigsResource, request: DescribeConfigsRequest
) -> list[DescribeConfigsResourceResult]:
    own = broker.topics.existing(resource.resource_name).config
    return [_topic_entry(config, values_of(config, own, broker.settings), request) for config in CONFIGS.values()]


def _topic_entry(
    config: TopicConfig, values: list[ConfigValue], request: DescribeConfigsRequest
) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=config.name,
        value=values[0].value,
        read_only=False,
        config_source=i8(values[0].source),
        is_sensitive=False,
        synonyms=tuple(
            DescribeConfigsSynonym(name=value.name, value=value.value, source=i8(value.source))
            for value in values
            if request.include_synonyms
        ),
        config_type=i8(config.kind),
        documentation=f"Accepted: {config.expected}." if request.include_documentation else None,
    )


def _broker(broker: BrokerState, resource: DescribeConfigsResource) -> list[DescribeConfigsResourceResult]:
    if resource.resource_type != BROKER or resource.resource_name != str(broker.settings.node_id):
        raise Refused(
            ErrorCode.invalid_request,
            f"resource type {resource.resource_type} {resource.resource_name!r}: describe a topic (2) "
            f"or broker (4) {broker.settings.node_id}",
        )
    return [_broker_entry(name, value) for name, value in _broker_configs(broker.settings).items()]


def _broker_configs(settings: BrokerSettings) -> Mapping[str, str]:
    return {
        "message.max.bytes": str(settings.max_message_bytes),
        "socket.request.max.bytes": str(settings.max_request_bytes),
        "num.partitions": str(settings.default_partitions),
        "default.replication.factor": "1",
        "auto.create.topics.enable": str(settings.auto_create_topics).lower(),
        "log.segment.bytes": str(settings.segment_bytes),
        "log.roll.ms": str(settings.segment_ms),
        "log.retention.ms": str(settings.retention_ms),
        "log.retention.bytes": str(settings.retention_bytes),
        "log.retention.check.interval.ms": str(settings.retention_check_interval_ms),
        "log.dirs": str(settings.data),
        "group.min.session.timeout.ms": str(settings.min_session_timeout_ms),
        "group.max.session.timeout.ms": str(settings.max_session_timeout_ms),
    }


def _broker_entry(name: str, value: str) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=name,
        value=value,
        read_only=True,
        config_source=i8(ConfigSource.BROKER),
        is_sensitive=False,
        synonyms=(),
        documentation=None,
    )
