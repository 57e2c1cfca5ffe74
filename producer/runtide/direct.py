"""Publishing for services (registrar, deployer, gateway): no spool, an answer once the broker has the event.

A service has its own durable source to start again from; a training job has not, and uses the spool instead.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from runtide.delivery import DeliveryWindow
from runtide.kafka import MAX_EVENT_BYTES, KafkaSettings, describe
from runtide.numbering import Numbering, OneWriter
from runtide.outgoing import Outgoing
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import Envelope, to_headers
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.identity import new_writer_id, now_ms, uuid7
from runtide_schemas.routing import key_of, subject_of, topic_of

_RUN_TOPICS = (topics.RUNS, topics.METRICS)


@dataclass(frozen=True, slots=True)
class Published:
    """Where an acknowledged event is. ``offset`` is -1 when the broker had it already and no longer says where."""

    id: str
    topic: str
    partition: int
    offset: int
    seq: int


class _DeliveryEnded(Exception):
    """Nothing is delivered any more."""

    @classmethod
    def because(cls, why: BaseException | None) -> "_DeliveryEnded":
        """Return the error for an end that has a cause, or that was asked for."""
        error = cls("as the publisher was closed" if why is None else f"as delivery has ended: {describe(why)}")
        error.__cause__ = why
        return error


class DirectPublisher:
    """Publishes events of one service, in the order of the calls, as one writer with a random id.

    Use as ``async with DirectPublisher(settings, service="registrar") as publisher``. Sequence numbers count per
    (topic, run) for the topics about runs and per topic for the others.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        service: str,
        deadline: float = 30.0,
        numbering: Numbering | None = None,
        linger_ms: int | None = None,
    ) -> None:
        """``deadline``: seconds that ``publish`` tries before it gives up; ``numbering``: one writer when None.

        ``linger_ms``: how long an event may wait for others to travel with; as the SDK's do when None.
        """
        self.writer = new_writer_id()
        self._numbering = numbering or OneWriter(self.writer)
        self._settings = settings
        self._source = f"/services/{service}/{self.writer}"
        self._deadline = deadline
        self._linger_ms = linger_ms
        self._window: DeliveryWindow | None = None
        self._running: asyncio.Task[None] | None = None
        self._awaited: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            FatalError: there is a schema registry, and it refuses a schema of ours or lacks one and may not be given it.
        """
        self._window = DeliveryWindow(self._settings, linger_ms=self._linger_ms)
        await self._window.prepare()
        self._running = asyncio.create_task(self._window.run(), name="direct-publisher")
        self._running.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; every ``publish`` that returned was acknowledged, so there is nothing to flush."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def publish(
        self,
        body: object,
        *,
        actor: str = "",
        cause: str = "",
        time: int | None = None,
        event_id: str | None = None,
        partition: int | None = None,
    ) -> Published:
        """Publish one event and return where it is once the broker has it.

        After a delivery error the same event (same id, same sequence number) is sent again.

        Args:
            body: the event.
            actor: person or service on whose behalf.
            cause: id of the event that led to this one.
            time: Unix time in milliseconds; now when None.
            event_id: its id (UUIDv7); a new one when None.
            partition: partition to write to; the key decides when None.

        Raises:
            TransientError: not acknowledged in time. The outcome is unknown: it may be in the log.
            InvalidRequest: the event is too large.
        """
        if self._window is None or self._running is None:
            raise RuntimeError("use DirectPublisher as `async with DirectPublisher(...) as publisher`")
        value = encode(body)
        if len(value) > MAX_EVENT_BYTES:
            raise InvalidRequest(f"{type(body).__name__} has {len(value)} bytes; the limit is {MAX_EVENT_BYTES}")
        envelope = self._envelope(body, actor, cause, now_ms() if time is None else time, event_id)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        record = Outgoing(
            topic=topic_of(body),
            key=key_of(body, envelope.writer),
            value=value,
            headers=to_headers(envelope),
            timestamp_ms=envelope.time,
            acknowledged=lambda metadata: None if answer.done() else answer.set_result(metadata),
            partition=partition,
        )
        try:
            metadata = await self._delivered(self._window, record, answer, envelope)
        except TransientError:
            self._numbering.give_up(*_about(body))
            raise
        return Published(envelope.id, record.topic, metadata.partition, metadata.offset, envelope.seq)

    async def _delivered(
        self,
        window: DeliveryWindow,
        record: Outgoing,
        answer: "asyncio.Future[Any]",
        envelope: Envelope,
    ) -> Any:
        window.submit(record)
        self._awaited.add(answer)
        if self._running is not None and self._running.done():
            self._ended(self._running)
        try:
            async with asyncio.timeout(self._deadline):
                return await answer
        except (TimeoutError, _DeliveryEnded) as failure:
            window.withdraw(record)
            by = f"by {self._settings.bootstrap} within {self._deadline:g} s"
            raise TransientError(
                f"{envelope.type} {envelope.id} was not acknowledged {by if isinstance(failure, TimeoutError) else failure}; "
                f"whether it is in {record.topic} is unknown. Look there before trying again"
            ) from failure
        finally:
            self._awaited.discard(answer)

    def _ended(self, running: asyncio.Task[None]) -> None:
        """Tell whoever waits that nothing will be delivered any more."""
        why = None if running.cancelled() else running.exception()
        for answer in self._awaited:
            if not answer.done():
                answer.set_exception(_DeliveryEnded.because(why))

    def _envelope(self, body: object, actor: str, cause: str, at: int, event_id: str | None) -> Envelope:
        writer, seq = self._numbering.take(*_about(body))
        return Envelope(
            id=event_id or uuid7(at),
            type=type(body).__name__,
            subject=subject_of(body),
            writer=writer,
            seq=seq,
            time=at,
            source=self._source,
            actor=actor,
            cause=cause,
        )


def _about(body: object) -> tuple[str, str]:
    topic = topic_of(body)
    return topic, getattr(body, "run_id", "") if topic in _RUN_TOPICS else ""
