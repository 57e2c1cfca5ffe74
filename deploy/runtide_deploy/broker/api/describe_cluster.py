"""DescribeCluster (KIP-700)."""

from kio.schema.describe_cluster.v1.request import DescribeClusterRequest
from kio.schema.describe_cluster.v1.response import DescribeClusterBroker, DescribeClusterResponse
from kio.schema.errors import ErrorCode
from kio.schema.types import BrokerId
from kio.static.primitive import i32

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

_BROKERS = 1


def handle(request: DescribeClusterRequest, context: RequestContext) -> DescribeClusterResponse:
    """Describe the one broker; there are no controllers to ask for."""
    broker = context.broker
    node = BrokerId(broker.settings.node_id)
    is_known = request.endpoint_type == _BROKERS
    return DescribeClusterResponse(
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.none if is_known else ErrorCode.unsupported_endpoint_type,
        error_message=None if is_known else "this broker has no controllers; ask for brokers (endpoint type 1)",
        endpoint_type=request.endpoint_type,
        cluster_id=broker.directory.cluster_id,
        controller_id=node,
        brokers=(DescribeClusterBroker(broker_id=node, host=broker.host, port=i32(broker.port)),) if is_known else (),
    )
