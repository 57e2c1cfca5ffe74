"""DeleteRecords (KIP-107): a partition's start moves up to an offset; what lies below is not served any more."""

from kio.schema.delete_records.v2.request import DeleteRecordsPartition, DeleteRecordsRequest
from kio.schema.delete_records.v2.response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from kio.schema.errors import ErrorCode
from kio.static.primitive import i64

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

HIGH_WATERMARK = -1
_UNKNOWN = -1


def handle(request: DeleteRecordsRequest, context: RequestContext) -> DeleteRecordsResponse:
    """Move each partition's start on its own, durably; whole segments below it go with the next look of retention."""
    return DeleteRecordsResponse(
        throttle_time=NO_THROTTLE,
        topics=tuple(
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=tuple(_delete(context.broker, topic.name, partition) for partition in topic.partitions),
            )
            for topic in request.topics
        ),
    )


def _delete(broker: BrokerState, topic: str, partition: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
    code, start = ErrorCode.none, _UNKNOWN
    try:
        log = broker.topics.partition(topic, partition.partition_index)
        log.delete_records(log.high_watermark if partition.offset == HIGH_WATERMARK else partition.offset)
        start = log.start_offset
    except Refused as refused:
        code = refused.code
    return DeleteRecordsPartitionResult(
        partition_index=partition.partition_index, low_watermark=i64(start), error_code=code
    )
