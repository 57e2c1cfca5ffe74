"""DeleteGroups: forget empty groups and what they committed."""

from kio.schema.delete_groups.v2.request import DeleteGroupsRequest
from kio.schema.delete_groups.v2.response import DeletableGroupResult, DeleteGroupsResponse
from kio.schema.errors import ErrorCode
from kio.schema.types import GroupId

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: DeleteGroupsRequest, context: RequestContext) -> DeleteGroupsResponse:
    """Delete each group on its own."""
    return DeleteGroupsResponse(
        throttle_time=NO_THROTTLE, results=tuple(_delete(context.broker, name) for name in request.groups_names)
    )


def _delete(broker: BrokerState, group_id: GroupId) -> DeletableGroupResult:
    code = ErrorCode.none
    try:
        broker.groups.delete(group_id)
    except Refused as refused:
        code = refused.code
    return DeletableGroupResult(group_id=group_id, error_code=code)
