"""CreatePartitions: more partitions for a topic; never fewer."""

from kio.schema.create_partitions.v3.request import CreatePartitionsRequest, CreatePartitionsTopic
from kio.schema.create_partitions.v3.response import CreatePartitionsResponse, CreatePartitionsTopicResult
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: CreatePartitionsRequest, context: RequestContext) -> CreatePartitionsResponse:
    """Extend, or only check, each topic on its own."""
    return CreatePartitionsResponse(
        throttle_time=NO_THROTTLE,
        results=tuple(_extend(context.broker, topic, validate_only=request.validate_only) for topic in request.topics),
    )


def _extend(broker: BrokerState, topic: CreatePartitionsTopic, *, validate_only: bool) -> CreatePartitionsTopicResult:
    try:
        if any(assignment.broker_ids != (broker.settings.node_id,) for assignment in topic.assignments or ()):
            raise Refused(
                ErrorCode.invalid_replica_assignment, f"every partition must lie on broker {broker.settings.node_id}"
            )
        broker.topics.add_partitions(topic.name, topic.count, validate_only=validate_only)
    except Refused as refused:
        return CreatePartitionsTopicResult(name=topic.name, error_code=refused.code, error_message=refused.message)
    return CreatePartitionsTopicResult(name=topic.name, error_code=ErrorCode.none)
