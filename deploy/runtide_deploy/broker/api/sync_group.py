"""SyncGroup of the classic group protocol."""

from collections.abc import Awaitable

from kio.schema.errors import ErrorCode
from kio.schema.sync_group.v5.request import SyncGroupRequest
from kio.schema.sync_group.v5.response import SyncGroupResponse

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.groups.coordinator import MemberClaim
from runtide_deploy.broker.groups.member import Synced
from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

_NAMES_PROTOCOL = 5


def handle(request: SyncGroupRequest, context: RequestContext) -> SyncGroupResponse | Awaitable[SyncGroupResponse]:
    """Answer when the leader has sent the assignment; since version 5 a member must say which protocol it follows."""
    if context.version >= _NAMES_PROTOCOL and (request.protocol_type is None or request.protocol_name is None):
        return _response(Synced(ErrorCode.inconsistent_group_protocol))
    claim = MemberClaim(request.group_id, request.member_id, request.group_instance_id, request.generation_id)
    assignments = {entry.member_id: entry.assignment for entry in request.assignments}
    try:
        synced = context.broker.groups.sync(claim, assignments, request.protocol_type, request.protocol_name)
    except Refused as refused:
        return _response(Synced(refused.code))
    return _response(synced) if isinstance(synced, Synced) else _when_synced(synced)


async def _when_synced(synced: Awaitable[Synced]) -> SyncGroupResponse:
    return _response(await synced)


def _response(synced: Synced) -> SyncGroupResponse:
    return SyncGroupResponse(
        throttle_time=NO_THROTTLE,
        error_code=synced.error,
        protocol_type=synced.protocol_type,
        protocol_name=synced.protocol,
        assignment=synced.assignment,
    )
