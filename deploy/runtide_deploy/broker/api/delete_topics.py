"""DeleteTopics by name (versions up to 5; 6 adds deletion by topic id)."""

from kio.schema.delete_topics.v5.request import DeleteTopicsRequest
from kio.schema.delete_topics.v5.response import DeletableTopicResult, DeleteTopicsResponse
from kio.schema.errors import ErrorCode
from kio.schema.types import TopicName

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
    """Delete each topic on its own, with its records and what groups committed for it."""
    return DeleteTopicsResponse(
        throttle_time=NO_THROTTLE, responses=tuple(_delete(context.broker, name) for name in request.topic_names)
    )


def _delete(broker: BrokerState, name: TopicName) -> DeletableTopicResult:
    try:
        broker.topics.delete(name)
        broker.groups.offsets.delete_topic(name)
    except Refused as refused:
        return DeletableTopicResult(name=name, error_code=refused.code, error_message=refused.message)
    return DeletableTopicResult(name=name, error_code=ErrorCode.none)
