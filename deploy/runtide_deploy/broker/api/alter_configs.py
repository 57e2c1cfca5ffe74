"""AlterConfigs: a topic's whole configuration anew. Deprecated by KIP-339, but aiokafka and librdkafka still offer it."""

from kio.schema.alter_configs.v2.request import AlterConfigsRequest, AlterConfigsResource
from kio.schema.alter_configs.v2.response import AlterConfigsResourceResponse, AlterConfigsResponse
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.api.config_resources import alter, check_keys
from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """Replace, or only check, each topic's configuration on its own; durable, by one write, before it is answered."""
    refused = alter(
        context.broker.topics,
        request.resources,
        _wanted,
        validate_only=request.validate_only,
    )
    return AlterConfigsResponse(
        throttle_time=NO_THROTTLE,
        responses=tuple(
            _response(resource, reason) for resource, reason in zip(request.resources, refused, strict=True)
        ),
    )


def _wanted(resource: AlterConfigsResource) -> dict[str, str | None]:
    check_keys(
        (entry.name for entry in resource.configs),
        (entry.name for entry in resource.configs if entry.value is None),
    )
    return {entry.name: entry.value for entry in resource.configs}


def _response(resource: AlterConfigsResource, refused: Refused | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.none if refused is None else refused.code,
        error_message=None if refused is None else refused.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
