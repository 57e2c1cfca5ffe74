"""Requests to the registrar and its answers: exactly one fact per request, in ``runtide.catalog``."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtide_schemas import topics
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

if TYPE_CHECKING:
    from runtide.tracking.writer import Writer


class AnswerPending(TransientError):
    """A request was made and is not answered yet; it will be, without being made again.

    Attributes:
        request_id: id of the request; its answer is the fact with that ``answer.request_id`` in runtide.catalog.
    """

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


@dataclass(slots=True)
class _Request:
    """A request that is put in the spool once the listener is in place, so that its answer cannot be missed."""

    writer: "Writer"
    body: object
    id: str = field(default="", init=False)

    def send(self) -> str:
        if not self.id:
            self.id = self.writer.publish(self.body)
        return self.id


def ask(writer: "Writer", body: object, wait: float) -> Any:
    """Make a request and return the fact that answers it.

    Args:
        writer: in whose name.
        body: the request.
        wait: seconds to wait for the answer.

    Raises:
        InvalidRequest: the registrar refused; ``code`` and message are its.
        AnswerPending: no answer in time, or no broker; the request is in the spool or the log all the same.
    """
    request = _Request(writer, body)
    transport = writer.connection.transport()
    if transport is None:
        raise _pending(request, "no broker is configured; `runtide sync` sends it")
    deadline = time.monotonic() + wait
    try:
        fact = writer.publisher.call(transport.answer(request, deadline), wait + 1)
    except (OSError, TransientError, FatalError) as error:
        why = writer.publisher.trouble or str(error) or type(error).__name__
        raise _pending(request, f"the registrar did not answer within {wait:g} s ({why})") from error
    if type(fact).__name__ == "RequestRejected":
        raise InvalidRequest(fact.message, fact.code)
    return fact


def _pending(request: _Request, why: str) -> AnswerPending:
    kind = type(request.body).__name__
    return AnswerPending(
        f"{kind} {request.send()} has no answer yet: {why}. The request is kept and will be decided; do not make it "
        f"again. Its answer will be the fact in {topics.CATALOG} whose answer.request_id is this id",
        request.id,
    )
