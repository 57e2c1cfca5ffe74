"""ListGroups: every group with members or committed offsets."""

from kio.schema.errors import ErrorCode
from kio.schema.list_groups.v4.request import ListGroupsRequest
from kio.schema.list_groups.v4.response import ListedGroup, ListGroupsResponse
from kio.schema.types import GroupId

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse:
    """List the groups, or those in certain states."""
    return ListGroupsResponse(
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.none,
        groups=tuple(
            ListedGroup(
                group_id=GroupId(group.id), protocol_type=group.protocol_type or "", group_state=group.state.value
            )
            for group in context.broker.groups.groups().values()
            if not request.states_filter or group.state.value in request.states_filter
        ),
    )
