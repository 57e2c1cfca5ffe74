"""AlterConfigs: a topic's whole configuration anew. Deprecated by KIP-339, but aiokafka and librdkafka still offer it."""

from kio.schema.alter_configs.v2.request import AlterConfigsRequest, AlterConfigsResource
from kio.schema.alter_configs.v2.response import AlterConfigsResourceResponse, AlterConfigsResponse
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.api.config_resources import check_keys, check_resources
from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """Replace, or only check, each topic's configuration on its own; durable before it is answered."""
    refused = check_resources(request.resources)
    return AlterConfigsResponse(
        throttle_time=NO_THROTTLE,
        responses=tuple(
            _response(
                resource,
                refused.get((resource.resource_type, resource.resource_name))
                or _alter(context.broker, resource, validate_only=request.validate_only),
            )
            for resource in request.resources
        ),
    )


def _alter(broker: BrokerState, resource: AlterConfigsResource, *, validate_only: bool) -> Refused | None:
    try:
        check_keys(
            (entry.name for entry in resource.configs),
            (entry.name for entry in resource.configs if entry.value is None),
        )
        config = {entry.name: entry.value for entry in resource.configs}
        broker.topics.configure(resource.resource_name, config, validate_only=validate_only)
    except Refused as refused:
        return refused
    return None


def _response(resource: AlterConfigsResource, refused: Refused | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.none if refused is None else refused.code,
        error_message=None if refused is None else refused.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
