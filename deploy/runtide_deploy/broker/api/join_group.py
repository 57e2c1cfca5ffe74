"""JoinGroup of the classic group protocol."""

from collections.abc import Awaitable
from datetime import timedelta

from kio.schema.join_group.v9.request import JoinGroupRequest
from kio.schema.join_group.v9.response import JoinGroupResponse, JoinGroupResponseMember
from kio.static.primitive import i32

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.groups.coordinator import Join
from runtide_deploy.broker.groups.member import Joined
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

_MILLISECOND = timedelta(milliseconds=1)
_KNOWS_MEMBER_ID_REQUIRED = 4
_NULLABLE_PROTOCOL = 7


def handle(request: JoinGroupRequest, context: RequestContext) -> JoinGroupResponse | Awaitable[JoinGroupResponse]:
    """Answer when the group's rebalance completes."""
    join = Join(
        group_id=request.group_id,
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        client_id=context.client_id,
        client_host=context.client_host,
        session_timeout_ms=request.session_timeout // _MILLISECOND,
        rebalance_timeout_ms=request.rebalance_timeout // _MILLISECOND,
        protocol_type=request.protocol_type,
        protocols=tuple((protocol.name, protocol.metadata) for protocol in request.protocols),
        must_know_id=context.version >= _KNOWS_MEMBER_ID_REQUIRED,
    )
    try:
        joined = context.broker.groups.join(join)
    except Refused as refused:
        return _response(Joined(refused.code, request.member_id), context.version)
    if isinstance(joined, Joined):
        return _response(joined, context.version)
    return _when_joined(joined, context.version)


async def _when_joined(joined: Awaitable[Joined], version: int) -> JoinGroupResponse:
    return _response(await joined, version)


def _response(joined: Joined, version: int) -> JoinGroupResponse:
    return JoinGroupResponse(
        throttle_time=NO_THROTTLE,
        error_code=joined.error,
        generation_id=i32(joined.generation),
        protocol_type=joined.protocol_type,
        protocol_name=joined.protocol if version >= _NULLABLE_PROTOCOL else joined.protocol or "",
        leader=joined.leader,
        member_id=joined.member_id,
        members=tuple(
            JoinGroupResponseMember(member_id=member_id, group_instance_id=instance_id, metadata=metadata)
            for member_id, instance_id, metadata in joined.members
        ),
    )
