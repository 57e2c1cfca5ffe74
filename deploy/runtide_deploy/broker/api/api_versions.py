"""ApiVersions (KIP-35, KIP-511): what this broker serves."""

from kio.schema.api_versions.v0.response import ApiVersion as ApiVersionV0
from kio.schema.api_versions.v0.response import ApiVersionsResponse as ApiVersionsResponseV0
from kio.schema.api_versions.v4.request import ApiVersionsRequest
from kio.schema.api_versions.v4.response import ApiVersion, ApiVersionsResponse
from kio.schema.errors import ErrorCode
from kio.static.primitive import i16

from runtide_deploy.broker.api.table import API_VERSIONS
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(_request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
    """Answer with the served version range of every API."""
    return ApiVersionsResponse(
        error_code=ErrorCode.none,
        api_keys=tuple(
            ApiVersion(api_key=i16(key), min_version=i16(lowest), max_version=i16(newest))
            for key, (lowest, newest) in sorted(context.broker.served.items())
        ),
        throttle_time=NO_THROTTLE,
    )


def refuse_version(broker: BrokerState) -> ApiVersionsResponseV0:
    """Answer a version we do not know: version 0 with UNSUPPORTED_VERSION and our own range, so that clients retry."""
    lowest, newest = broker.served[API_VERSIONS.key]
    return ApiVersionsResponseV0(
        error_code=ErrorCode.unsupported_version,
        api_keys=(ApiVersionV0(api_key=i16(API_VERSIONS.key), min_version=i16(lowest), max_version=i16(newest)),),
    )
