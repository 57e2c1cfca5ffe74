"""LeaveGroup; versions up to 2 name one member in the request itself, later ones (KIP-345) a list."""

from kio.schema.errors import ErrorCode
from kio.schema.leave_group.v5.request import LeaveGroupRequest, MemberIdentity
from kio.schema.leave_group.v5.response import LeaveGroupResponse, MemberResponse

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE, Message

_FIRST_WITH_LIST = 3


def handle(request: LeaveGroupRequest, context: RequestContext) -> LeaveGroupResponse:
    """Remove members, each with its own answer; old versions have room for the one member's answer only."""
    members = tuple(_leave(context.broker, request.group_id, member) for member in request.members)
    code = members[0].error_code if context.version < _FIRST_WITH_LIST else ErrorCode.none
    return LeaveGroupResponse(throttle_time=NO_THROTTLE, error_code=code, members=members)


def _leave(broker: BrokerState, group_id: str, member: MemberIdentity) -> MemberResponse:
    code = ErrorCode.none
    try:
        broker.groups.leave(group_id, member.member_id, member.group_instance_id)
    except Refused as refused:
        code = refused.code
    return MemberResponse(member_id=member.member_id, group_instance_id=member.group_instance_id, error_code=code)


def lift(request: Message) -> Message | None:
    if request.__version__ >= _FIRST_WITH_LIST:
        return None
    return LeaveGroupRequest(group_id=request.group_id, members=(MemberIdentity(member_id=request.member_id),))
