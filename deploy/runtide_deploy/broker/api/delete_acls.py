"""DeleteAcls: refused, because this broker has no access control."""

from kio.schema.delete_acls.v3.request import DeleteAclsRequest
from kio.schema.delete_acls.v3.response import DeleteAclsFilterResult, DeleteAclsResponse
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.api.describe_acls import NO_ACCESS_CONTROL
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: DeleteAclsRequest, _context: RequestContext) -> DeleteAclsResponse:
    """Refuse every one."""
    refused = DeleteAclsFilterResult(
        error_code=ErrorCode.security_disabled, error_message=NO_ACCESS_CONTROL, matching_acls=()
    )
    return DeleteAclsResponse(throttle_time=NO_THROTTLE, filter_results=(refused,) * len(request.filters))
