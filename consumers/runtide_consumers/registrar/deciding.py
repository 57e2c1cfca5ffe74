"""``decide(state, request) -> fact``: pure, exactly one fact per request.

Rules and error codes are MLflow's (its model registry and tracking stores), except that what an MLflow server answers
with an internal error for bad input is an INVALID_PARAMETER_VALUE here.
"""

from typing import Any

from runtide_consumers.projection import Event
from runtide_consumers.registrar import decide_deployments, decide_experiments, decide_models, decide_webhooks
from runtide_consumers.registrar.state import Catalogue, Decision
from runtide_schemas.envelope import Envelope
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.catalog import Answer, RequestRejected

MAX_MESSAGE_LENGTH = 2_000

DECISIONS: dict[type, Decision] = {
    **decide_experiments.DECISIONS,
    **decide_models.DECISIONS,
    **decide_deployments.DECISIONS,
    **decide_webhooks.DECISIONS,
}


def decide(state: Catalogue, request: Event) -> Any:
    """Return the fact that answers ``request``; a request that cannot be granted is answered by RequestRejected."""
    answer = answer_to(request.envelope, request.origin.offset)
    try:
        return DECISIONS[type(request.body)](state, request.body, answer, request.envelope.time)
    except InvalidRequest as error:
        return reject(request.envelope, request.origin.offset, error)


def reject(envelope: Envelope, offset: int, error: InvalidRequest) -> RequestRejected:
    """Return the fact that a request is refused."""
    return RequestRejected(
        answer=answer_to(envelope, offset),
        request_type=envelope.type,
        code=error.code,
        message=str(error).replace("\x00", "\\x00")[:MAX_MESSAGE_LENGTH],
        at=envelope.time,
    )


def answer_to(envelope: Envelope, offset: int) -> Answer:
    """Return what a fact says about the request that it answers."""
    return Answer(
        request_id=envelope.id,
        request_offset=offset,
        request_writer=envelope.writer,
        request_seq=envelope.seq,
    )
