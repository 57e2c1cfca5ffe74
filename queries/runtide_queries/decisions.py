"""The registrar's answers, for whoever made a request over HTTP and waits: the end of ``runtide.catalog``, followed."""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from runtide.kafka import KafkaSettings, describe, new_consumer, stop_consumer
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_schemas import topics
from runtide_schemas.codec import decode, encode
from runtide_schemas.errors import FatalError, PoisonEvent, TransientError

REMEMBERED = 10_000
"""Facts before the end that are looked at first: a request may be answered before anybody asks."""
MOST_WAITING = 1_000
_POLL_MS = 500
_PAUSE_S = 1.0
_STOP_S = 15.0
_CATALOG = TopicPartition(topics.CATALOG, 0)
log = logging.getLogger(__name__)


class Decisions:
    """Answers by the id of their request. Belongs to one event loop; follows the log from the first question on."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._settings = kafka
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._waiting: defaultdict[str, set[asyncio.Future[bytes]]] = defaultdict(set)
        self._following: asyncio.Task[None] | None = None

    async def answer(self, request_id: str, wait_s: float) -> bytes | None:
        """Return the fact that answers a request, in single-object encoding; None when there is none within ``wait_s``.

        Raises:
            TransientError: too many wait already.
        """
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(), name="decisions")
        if (known := self._answers.get(request_id)) is not None:
            return known
        if sum(map(len, self._waiting.values())) >= MOST_WAITING:
            raise TransientError(f"{MOST_WAITING} callers wait for answers already; ask again")
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[request_id].add(future)
        try:
            await asyncio.wait({future}, timeout=wait_s)
        finally:
            self._waiting[request_id].discard(future)
            if not self._waiting[request_id]:
                del self._waiting[request_id]
        return future.result() if future.done() else None

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following}, timeout=_STOP_S)

    async def _follow(self) -> None:
        while True:
            consumer = new_consumer(self._settings)
            try:
                await consumer.start()
                await self._read(consumer)
            except (KafkaError, OSError, TransientError, FatalError) as error:
                log.warning("the catalogue cannot be followed: %s. Tried again", describe(error))
            finally:
                await stop_consumer(consumer)
            await asyncio.sleep(_PAUSE_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        schemas = registry_for(self._settings.schema_registry)
        consumer.assign([_CATALOG])
        begin = (await consumer.beginning_offsets([_CATALOG]))[_CATALOG]
        end = (await consumer.end_offsets([_CATALOG]))[_CATALOG]
        consumer.seek(_CATALOG, max(begin, end - REMEMBERED))
        while True:
            records = (await consumer.getmany(_CATALOG, timeout_ms=_POLL_MS)).get(_CATALOG, [])
            values = [record.value or b"" for record in records]
            await schemas.learn(values)
            for value in values:
                self._note(value, schemas)

    def _note(self, value: bytes, schemas: SchemaRegistry) -> None:
        try:
            fact: Any = decode(value, schemas.decoder)
        except PoisonEvent:
            return  # the projectors park it with its bytes
        answer = getattr(fact, "answer", None)
        if answer is None:
            return
        self._answers[answer.request_id] = encoded = encode(fact)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        for future in self._waiting.get(answer.request_id, ()):
            if not future.done():
                future.set_result(encoded)
