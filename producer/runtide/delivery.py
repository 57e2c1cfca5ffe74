"""Records on their way to the broker: sent in order, acknowledged in any, re-sent as often as it takes.

The window owns an idempotent producer and throws it away after any error, because aiokafka's cannot be trusted
afterwards. What was not acknowledged is then sent again, in the same order and with the same identity; readers drop
what they have seen by (writer, seq). Used by the SDK's publisher thread and by services alike; and the one place where a
body gets the header that a schema registry's readers want.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from runtide.kafka import KafkaSettings, NoAccess, describe, discard, new_producer, quiet_loggers
from runtide.kafka_access import UNCONNECTED_S, AccessWatch, why_no_access
from runtide.outgoing import Outgoing
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_schemas.errors import RuntideError, TransientError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
MENTION_TIMEOUT_S = 5.0


class DeliveryWindow:
    """Delivers records in the order of ``submit``, for as long as ``run`` runs. Belongs to one event loop.

    Attributes:
        refused: why the broker will never let us in, as the settings are; empty when it does, or is merely away.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        on_trouble: Callable[[str, str], None] | None = None,
        quiet: int = logging.WARNING,
        linger_ms: int | None = None,
    ) -> None:
        """``on_trouble`` hears in words about every failed connection or delivery, and "" when it works again.

        Its second argument is ``refused``. ``linger_ms``: how long a record may wait for others to travel with.
        """
        self.refused = ""
        self._settings = settings
        self._producer_options = {} if linger_ms is None else {"linger_ms": linger_ms}
        self._on_trouble = on_trouble or (lambda text, _: log.warning("%s", text) if text else None)
        self._unsettled: dict[Outgoing, None] = {}
        """In the order of ``submit``. What is settled leaves it at once: one that waits must not keep later ones in memory."""
        self._unsent: deque[Outgoing] = deque()
        self._wake = asyncio.Event()
        self._failure: BaseException | None = None
        self._troubled = False
        self._pause = FIRST_PAUSE_S
        self._way: tuple[AIOKafkaProducer, SchemaRegistry] | None = None
        self._mentions: set[asyncio.Task[None]] = set()
        quiet_loggers(quiet)

    def __len__(self) -> int:
        """Return how many records are not settled."""
        return len(self._unsettled)

    async def prepare(self) -> None:
        """Have all schemas in the registry before the first record; while it is away, each when it is needed.

        Raises:
            FatalError: the registry refuses a schema, or lacks one and may not be given it.
        """
        try:
            await registry_for(self._settings.schema_registry).register_all()
        except TransientError as error:
            self._trouble(str(error))

    def submit(self, record: Outgoing) -> None:
        """Queue a record; it is sent after all that were submitted before."""
        self._unsettled[record] = None
        self._unsent.append(record)
        self._wake.set()

    def mention(self, record: Outgoing) -> None:
        """Send a record once, if we are connected, beside the others: it may get lost, and it holds up nothing."""
        if self._way is not None:
            mentioning = asyncio.create_task(_mention(*self._way, record), name="mention")
            self._mentions.add(mentioning)
            mentioning.add_done_callback(self._mentions.discard)

    def withdraw(self, record: Outgoing) -> None:
        """Stop caring about a record. It may have been delivered, or not: nobody knows."""
        self._settle(record)
        self._fail(TransientError("a record was withdrawn"))

    def forget(self, records: Iterable[Outgoing]) -> None:
        """Let records go that somebody else will deliver, so that they take no memory while the broker is away."""
        for record in records:
            self._settle(record)
        self._unsent = deque(record for record in self._unsent if not record.settled)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            producer: AIOKafkaProducer | None = None
            watching: asyncio.Task[None] | None = None
            try:
                registry = registry_for(self._settings.schema_registry)
                producer = new_producer(self._settings, **self._producer_options)
                await asyncio.wait_for(producer.start(), START_TIMEOUT_S)
                self.refused = ""
                watching = asyncio.create_task(self._watch(producer), name="watch-access")
                self._unsent = deque(self._unsettled)
                self._failure = None
                self._way = producer, registry
                await self._pump(producer, registry)
            except Exception as error:  # noqa: BLE001 - whatever it is, records must go on being delivered
                await self._look_for_reason(error, started=watching is not None)
                why = self.refused or describe(error)
                self._trouble(f"delivery to {self._settings.bootstrap} failed: {why}")
            finally:
                self._way = None
                for mentioning in self._mentions:
                    mentioning.cancel()
                if watching is not None:
                    watching.cancel()
                if producer is not None:
                    await discard(producer)
            await self._wait()

    async def _watch(self, producer: AIOKafkaProducer) -> None:
        """Fail the delivery when the broker lets us in no more; a started producer would never say so."""
        watch = AccessWatch(self._settings, producer.client)
        try:
            while True:
                await asyncio.sleep(UNCONNECTED_S / 2)
                await watch.check()
        except NoAccess as refused:
            self._fail(refused)

    async def _look_for_reason(self, error: Exception, *, started: bool) -> None:
        refused = error if started or isinstance(error, NoAccess) else await why_no_access(self._settings)
        self.refused = str(refused) if isinstance(refused, NoAccess) else ""

    async def _pump(self, producer: AIOKafkaProducer, registry: SchemaRegistry) -> None:
        while True:
            while self._unsent:
                self._raise_failure()
                await self._send(producer, registry, self._unsent.popleft())
            self._wake.clear()
            self._raise_failure()
            if not self._unsent:
                await self._wake.wait()

    async def _send(self, producer: AIOKafkaProducer, registry: SchemaRegistry, record: Outgoing) -> None:
        value = registry.framed(record.value)
        if value is None:
            value = await self._framed(registry, record)
        if record.settled:
            return
        sent = await producer.send(
            record.topic,
            value,
            key=record.key,
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
            headers=record.headers,
        )
        sent.add_done_callback(lambda future: self._on_done(record, future))

    async def _framed(self, registry: SchemaRegistry, record: Outgoing) -> bytes:
        """Wait until the schema registry knows the record's schema: nothing after it may be sent before it."""
        while not record.settled:
            try:
                return await registry.frame(record.value)
            except RuntideError as error:
                self._trouble(str(error))
            await self._wait()
            self._raise_failure()
        return record.value

    def _on_done(self, record: Outgoing, sent: "asyncio.Future[Any]") -> None:
        error = TransientError("the send was cancelled") if sent.cancelled() else sent.exception()
        if error is not None:
            self._fail(error)
        elif not record.settled:
            self._settle(record)
            self._recovered()
            record.acknowledged(sent.result())

    def _settle(self, record: Outgoing) -> None:
        record.settled = True
        self._unsettled.pop(record, None)

    def _trouble(self, text: str) -> None:
        self._troubled = True
        self._on_trouble(text, self.refused)

    async def _wait(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)

    def _recovered(self) -> None:
        self._pause = FIRST_PAUSE_S
        if self._troubled:
            self._troubled = False
            self._on_trouble("", "")

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._wake.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


async def _mention(producer: AIOKafkaProducer, registry: SchemaRegistry, record: Outgoing) -> None:
    """A log of an older stack may lack the topic, refuse it to us, or have a registry that does not know the schema."""
    try:
        async with asyncio.timeout(MENTION_TIMEOUT_S):
            await producer.partitions_for(record.topic)
            value = await registry.frame(record.value)
            sent = await producer.send(
                record.topic, value, key=record.key, timestamp_ms=record.timestamp_ms, headers=record.headers
            )
            await sent
    except (KafkaError, RuntideError, OSError, TimeoutError) as error:
        log.debug("%s was not told: %s", record.topic, describe(error))
