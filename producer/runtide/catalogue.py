"""Requests to the registrar and its answers: exactly one fact per request, in ``runtide.catalog``."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtide_schemas import topics
from runtide_schemas.errors import FatalError, InvalidRequest, PoisonEvent, TransientError

if TYPE_CHECKING:
    from runtide.kafka import KafkaSettings
    from runtide.schema_registry import SchemaRegistry
    from runtide.tracking.writer import Writer
    from runtide_schemas.confluent import DecoderById

_POLL_MS = 200
log = logging.getLogger(__name__)


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
    from aiokafka.errors import KafkaError

    from runtide.kafka import describe

    request = _Request(writer, body)
    connection = writer.connection
    if connection.offline:
        raise _pending(request, "no broker is configured; `runtide sync` sends it")
    deadline = time.monotonic() + wait
    try:
        fact = writer.publisher.call(_answer(connection.kafka(), request, deadline), wait + 1)
    except (KafkaError, OSError, TimeoutError, FatalError) as error:
        why = writer.publisher.trouble or describe(error)
        raise _pending(request, f"the registrar did not answer within {wait:g} s ({why})") from error
    if type(fact).__name__ == "RequestRejected":
        raise InvalidRequest(fact.message, fact.code)
    return fact


async def _answer(settings: "KafkaSettings", request: _Request, deadline: float) -> Any:
    from aiokafka import TopicPartition

    from runtide.kafka import new_consumer, stop_consumer
    from runtide.schema_registry import registry_for

    catalog = TopicPartition(topics.CATALOG, 0)
    consumer, schemas = new_consumer(settings), registry_for(settings.schema_registry)
    async with asyncio.timeout(deadline - time.monotonic()):
        try:
            await consumer.start()
            consumer.assign([catalog])
            end = (await consumer.end_offsets([catalog]))[catalog]
            consumer.seek(catalog, end)
            request.send()
            while True:
                records = (await consumer.getmany(catalog, timeout_ms=_POLL_MS)).get(catalog, [])
                if (fact := await _fact_in(schemas, [record.value for record in records], request.id)) is not None:
                    return fact
        finally:
            await stop_consumer(consumer)


async def _fact_in(schemas: "SchemaRegistry", values: list[bytes], request_id: str) -> Any | None:
    """Return the fact that answers, or None, however often a registry has to be asked: nothing is read twice."""
    while True:
        try:
            await schemas.learn(values)
            return _answer_among(values, request_id, schemas.decoder)
        except TransientError as error:
            log.debug("the answer to request %s may be there and cannot be read yet: %s", request_id, error)
        await asyncio.sleep(_POLL_MS / 1000)


def _answer_among(values: list[bytes], request_id: str, by_id: "DecoderById") -> Any | None:
    """Raises SchemaPending: none that can be read is the answer, and one cannot be read yet."""
    from runtide_schemas.codec import decode
    from runtide_schemas.confluent import SchemaPending

    pending: SchemaPending | None = None
    for value in values:
        try:
            answer = getattr(fact := decode(value, by_id), "answer", None)
        except SchemaPending as error:
            pending = error
        except PoisonEvent:
            continue
        else:
            if answer is not None and answer.request_id == request_id:
                return fact
    if pending is not None:
        raise pending
    return None


def _pending(request: _Request, why: str) -> AnswerPending:
    kind = type(request.body).__name__
    return AnswerPending(
        f"{kind} {request.send()} has no answer yet: {why}. The request is kept and will be decided; do not make it "
        f"again. Its answer will be the fact in {topics.CATALOG} whose answer.request_id is this id",
        request.id,
    )
