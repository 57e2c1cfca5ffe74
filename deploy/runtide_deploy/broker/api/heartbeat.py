"""Heartbeat of the classic group protocol."""

from kio.schema.errors import ErrorCode
from kio.schema.heartbeat.v4.request import HeartbeatRequest
from kio.schema.heartbeat.v4.response import HeartbeatResponse

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.groups.coordinator import MemberClaim
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: HeartbeatRequest, context: RequestContext) -> HeartbeatResponse:
    """Keep the member alive and tell it when it must join again."""
    claim = MemberClaim(request.group_id, request.member_id, request.group_instance_id, request.generation_id)
    code = ErrorCode.none
    try:
        context.broker.groups.heartbeat(claim)
    except Refused as refused:
        code = refused.code
    return HeartbeatResponse(throttle_time=NO_THROTTLE, error_code=code)
