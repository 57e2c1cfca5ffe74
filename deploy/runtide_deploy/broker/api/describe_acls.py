"""DescribeAcls: this broker has no access control, and says so as Apache Kafka without an authorizer does."""

from kio.schema.describe_acls.v3.request import DescribeAclsRequest
from kio.schema.describe_acls.v3.response import DescribeAclsResponse
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

NO_ACCESS_CONTROL = "this broker has no access control lists; use Apache Kafka for them"


def handle(_request: DescribeAclsRequest, _context: RequestContext) -> DescribeAclsResponse:
    """Refuse."""
    return DescribeAclsResponse(
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.security_disabled,
        error_message=NO_ACCESS_CONTROL,
        resources=(),
    )
