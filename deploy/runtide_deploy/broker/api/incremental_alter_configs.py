"""IncrementalAlterConfigs (KIP-339): single entries of a topic's configuration."""

from collections.abc import Mapping
from functools import partial

from kio.schema.errors import ErrorCode
from kio.schema.incremental_alter_configs.v1.request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kio.schema.incremental_alter_configs.v1.response import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse,
)

from runtide_deploy.broker.api.config_resources import alter, check_keys
from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.topic_config import ConfigType, find_config, values_of
from runtide_deploy.broker.wire.codec import NO_THROTTLE

SET, DELETE, APPEND, SUBTRACT = range(4)


def handle(request: IncrementalAlterConfigsRequest, context: RequestContext) -> IncrementalAlterConfigsResponse:
    """Change, or only check, each topic's configuration on its own; durable, by one write, before it is answered."""
    refused = alter(
        context.broker.topics,
        request.resources,
        partial(_wanted, context.broker),
        validate_only=request.validate_only,
    )
    return IncrementalAlterConfigsResponse(
        throttle_time=NO_THROTTLE,
        responses=tuple(
            _response(resource, reason) for resource, reason in zip(request.resources, refused, strict=True)
        ),
    )


def _wanted(broker: BrokerState, resource: AlterConfigsResource) -> dict[str, str | None]:
    changes = resource.configs
    nulls = (change.name for change in changes if change.value is None and change.config_operation != DELETE)
    check_keys((change.name for change in changes), nulls)
    topic = broker.topics.existing(resource.resource_name)
    config: dict[str, str | None] = {**topic.config}
    for change in changes:
        if change.config_operation == DELETE:
            config.pop(change.name, None)
        else:
            config[change.name] = _changed(broker, topic.config, change)
    return config


def _changed(broker: BrokerState, own: Mapping[str, str], change: AlterableConfig) -> str:
    config, given = find_config(change.name), change.value or ""
    if change.config_operation == SET:
        return given
    if change.config_operation not in {APPEND, SUBTRACT}:
        raise Refused(ErrorCode.invalid_request, f"configuration operation {change.config_operation} is unknown")
    if config.kind is not ConfigType.LIST:
        raise Refused(ErrorCode.invalid_config, f"{change.name} is no list, so nothing can be appended or taken away")
    present = values_of(config, own, broker.settings)[0].value.split(",")
    if change.config_operation == APPEND:
        return ",".join([*present, *(part for part in given.split(",") if part not in present)])
    return ",".join(part for part in present if part not in given.split(","))


def _response(resource: AlterConfigsResource, refused: Refused | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.none if refused is None else refused.code,
        error_message=None if refused is None else refused.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
