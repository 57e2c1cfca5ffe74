"""InitProducerId for idempotent producers (KIP-98); transactional ids are refused."""

from kio.schema.errors import ErrorCode
from kio.schema.init_producer_id.v5.request import InitProducerIdRequest
from kio.schema.init_producer_id.v5.response import InitProducerIdResponse
from kio.schema.types import ProducerId
from kio.static.primitive import i16

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE


def handle(request: InitProducerIdRequest, context: RequestContext) -> InitProducerIdResponse:
    """Give out a producer id that nobody ever had.

    A client that asks to raise the epoch of its id (KIP-360) gets a new id too, as from Apache Kafka.
    """
    if request.transactional_id is not None:
        # The one code every client takes as final; others make it look for a coordinator for ever.
        return _answer(ErrorCode.transactional_id_authorization_failed, producer_id=-1, epoch=-1)
    return _answer(ErrorCode.none, context.broker.directory.new_producer_id(), epoch=0)


def _answer(code: ErrorCode, producer_id: int, epoch: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(
        throttle_time=NO_THROTTLE, error_code=code, producer_id=ProducerId(producer_id), producer_epoch=i16(epoch)
    )
