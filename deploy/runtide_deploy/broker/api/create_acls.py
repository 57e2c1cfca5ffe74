"""CreateAcls: refused, because this broker has no access control."""

from kio.schema.create_acls.v3.request import CreateAclsRequest
from kio.schema.create_acls.v3.response import AclCreationResult, CreateAclsResponse
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.api.describe_acls import NO_ACCESS_CONTROL
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: CreateAclsRequest, _context: RequestContext) -> CreateAclsResponse:
    """Refuse every one."""
    refused = AclCreationResult(error_code=ErrorCode.security_disabled, error_message=NO_ACCESS_CONTROL)
    return CreateAclsResponse(throttle_time=NO_THROTTLE, results=(refused,) * len(request.creations))
