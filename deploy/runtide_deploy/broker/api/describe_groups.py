"""DescribeGroups: state and members of groups; an unknown group is "Dead" without an error, as in Apache Kafka."""

from kio.schema.describe_groups.v5.request import DescribeGroupsRequest
from kio.schema.describe_groups.v5.response import DescribedGroup, DescribedGroupMember, DescribeGroupsResponse
from kio.schema.errors import ErrorCode
from kio.schema.types import GroupId

from runtide_deploy.broker.groups.group import Group
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: DescribeGroupsRequest, context: RequestContext) -> DescribeGroupsResponse:
    """Describe each group asked for."""
    return DescribeGroupsResponse(
        throttle_time=NO_THROTTLE,
        groups=tuple(_describe(group_id, context.broker.groups.find(group_id)) for group_id in request.groups),
    )


def _describe(group_id: GroupId, group: Group | None) -> DescribedGroup:
    return DescribedGroup(
        error_code=ErrorCode.none,
        group_id=group_id,
        group_state="Dead" if group is None else group.state.value,
        protocol_type="" if group is None else group.protocol_type or "",
        protocol_data="" if group is None else group.protocol or "",
        members=() if group is None else _members(group),
    )


def _members(group: Group) -> tuple[DescribedGroupMember, ...]:
    return tuple(
        DescribedGroupMember(
            member_id=member.id,
            group_instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            member_metadata=member.metadata(group.protocol),
            member_assignment=member.assignment,
        )
        for member in group.members.values()
    )
