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

REMEMBERED, REMEMBERED_BYTES = 10_000, 32 * 1024 * 1024
"""Facts before the end that are looked at first, and kept: a request may be answered before anybody asks."""
MOST_WAITING = 1_000
_POLL_MS = 500
_PAUSE_S = 1.0
_FETCH_BYTES = 1024 * 1024
_FIRST_STEP = 16
_STOP_S = 15.0
_CATALOG = TopicPartition(topics.CATALOG, 0)
log = logging.getLogger(__name__)


class Remembered:
    """The newest facts by the id of their request, as many as fit."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._facts: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, request_id: str) -> bytes | None:
        """Return the fact that answers a request, if it is remembered."""
        return self._facts.get(request_id)

    def put(self, request_id: str, fact: bytes) -> None:
        """Remember a fact, and forget the oldest for it."""
        self._bytes += len(fact) - len(self._facts.pop(request_id, b""))
        self._facts[request_id] = fact
        while len(self._facts) > self._most or self._bytes > self._most_bytes:
            self._bytes -= len(self._facts.popitem(last=False)[1])


class Decisions:
    """Answers by the id of their request. Belongs to one event loop; follows the log from the first question on."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._settings = kafka
        self._answers = Remembered(REMEMBERED, REMEMBERED_BYTES)
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
            consumer = new_consumer(self._settings, max_partition_fetch_bytes=_FETCH_BYTES)
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
        consumer.seek(_CATALOG, await _first_that_fits(consumer))
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
        encoded = encode(fact)
        self._answers.put(answer.request_id, encoded)
        for future in self._waiting.get(answer.request_id, ()):
            if not future.done():
                future.set_result(encoded)


async def _first_that_fits(consumer: AIOKafkaConsumer) -> int:
    """Return an offset from which to the end there is no more than is remembered.

    Nobody tells how large records are but by reading them, so it goes back from the end, in steps that grow until one is too
    large, and shrink after that.
    """
    begin: int = (await consumer.beginning_offsets([_CATALOG]))[_CATALOG]
    end: int = (await consumer.end_offsets([_CATALOG]))[_CATALOG]
    oldest, first = max(begin, end - REMEMBERED), end
    left, step, grow = REMEMBERED_BYTES, _FIRST_STEP, True
    while first > oldest and step:
        start = max(oldest, first - step)
        size = await _bytes_between(consumer, start, first, left)
        if size <= left:
            first, left = start, left - size
        else:
            grow = False
        step = 2 * step if grow else step // 4
    return first


async def _bytes_between(consumer: AIOKafkaConsumer, start: int, stop: int, most: int) -> int:
    """Return how many bytes the records of some offsets have; it stops counting, and reading, at more than ``most``."""
    consumer.seek(_CATALOG, start)
    size = 0
    while size <= most and await consumer.position(_CATALOG) < stop:
        records = (await consumer.getmany(_CATALOG, timeout_ms=_POLL_MS)).get(_CATALOG, [])
        size += sum(len(record.value or b"") for record in records if record.offset < stop)
    return size
