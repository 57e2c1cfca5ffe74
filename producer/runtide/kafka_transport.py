"""Straight to Kafka: records through an idempotent producer, answers read from ``runtide.catalog``."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from runtide.delivery import DeliveryWindow
from runtide.kafka import KafkaSettings, describe, new_consumer, stop_consumer
from runtide.publisher.transport import OnTrouble, Request
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.confluent import DecoderById, SchemaPending
from runtide_schemas.errors import PoisonEvent, TransientError

_POLL_MS = 200
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KafkaTransport:
    """The way to the log where its brokers can be reached."""

    settings: KafkaSettings

    @property
    def address(self) -> str:
        """The bootstrap address."""
        return self.settings.bootstrap

    def window(self, on_trouble: OnTrouble) -> DeliveryWindow:
        """Return a new window; what aiokafka itself has to say about trouble is said in our words."""
        return DeliveryWindow(self.settings, on_trouble, logging.CRITICAL)

    async def answer(self, request: Request, deadline: float) -> Any:
        """Listen to the catalogue from its end on, make the request, and return the fact that answers it."""
        try:
            return await _answer(self.settings, request, deadline)
        except KafkaError as error:
            raise TransientError(describe(error)) from error


async def _answer(settings: KafkaSettings, request: Request, deadline: float) -> Any:
    catalog = TopicPartition(topics.CATALOG, 0)
    consumer, schemas = new_consumer(settings), registry_for(settings.schema_registry)
    async with asyncio.timeout(deadline - time.monotonic()):
        try:
            await consumer.start()
            consumer.assign([catalog])
            end = (await consumer.end_offsets([catalog]))[catalog]
            consumer.seek(catalog, end)
            request_id = request.send()
            while True:
                records = (await consumer.getmany(catalog, timeout_ms=_POLL_MS)).get(catalog, [])
                if (fact := await fact_in(schemas, [record.value for record in records], request_id)) is not None:
                    return fact
        finally:
            await stop_consumer(consumer)


async def fact_in(schemas: SchemaRegistry, values: list[bytes], request_id: str) -> Any | None:
    """Return the fact that answers, or None, however often a registry has to be asked: nothing is read twice."""
    while True:
        try:
            await schemas.learn(values)
            return _answer_among(values, request_id, schemas.decoder)
        except TransientError as error:
            log.debug("the answer to request %s may be there and cannot be read yet: %s", request_id, error)
        await asyncio.sleep(_POLL_MS / 1000)


def _answer_among(values: list[bytes], request_id: str, by_id: DecoderById) -> Any | None:
    """Raises SchemaPending: none that can be read is the answer, and one cannot be read yet."""
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
