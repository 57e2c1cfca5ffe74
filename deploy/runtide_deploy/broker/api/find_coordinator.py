"""FindCoordinator: this broker coordinates every group. Versions up to 3 ask for one key; 4 changes only the batching."""

from kio.schema.errors import ErrorCode
from kio.schema.find_coordinator.v3.request import FindCoordinatorRequest
from kio.schema.find_coordinator.v3.response import FindCoordinatorResponse
from kio.schema.types import BrokerId
from kio.static.primitive import i32

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

GROUP, TRANSACTION = 0, 1


def handle(request: FindCoordinatorRequest, context: RequestContext) -> FindCoordinatorResponse:
    """Point to ourselves for groups, refuse transactions."""
    if request.key_type == TRANSACTION:
        return _refuse(
            ErrorCode.transactional_id_authorization_failed,
            "this broker has no transactions; use Apache Kafka for transactional producers",
        )
    if request.key_type != GROUP:
        return _refuse(ErrorCode.invalid_request, f"coordinator type {request.key_type} is unknown")
    broker = context.broker
    return FindCoordinatorResponse(
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.none,
        error_message=None,
        node_id=BrokerId(broker.settings.node_id),
        host=broker.host,
        port=i32(broker.port),
    )


def _refuse(code: ErrorCode, message: str) -> FindCoordinatorResponse:
    return FindCoordinatorResponse(
        throttle_time=NO_THROTTLE, error_code=code, error_message=message, node_id=BrokerId(-1), host="", port=i32(-1)
    )
