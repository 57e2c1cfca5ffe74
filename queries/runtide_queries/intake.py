"""Events that come in over HTTP, as spool segments, and are published unchanged.

What a training job could put into Kafka itself it can bring here: facts about runs, and requests. Each event is decoded
and held against its envelope first, so that nothing gets into the log that only a projection would find out to be wrong,
and no client can write what the registrar or the deployer states.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from runtide.delivery import DeliveryWindow
from runtide.kafka import MAX_EVENT_BYTES, KafkaSettings, describe
from runtide.outgoing import Outgoing
from runtide.spool.segment_format import SpooledEvent, decode_segment
from runtide_queries.intake_rights import check_rights
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.envelope import from_headers
from runtide_schemas.errors import InvalidRequest, PoisonEvent, TransientError
from runtide_schemas.limits import check_run_id
from runtide_schemas.registry import EVENT_TYPES
from runtide_schemas.routing import key_of, subject_of

OPEN_TOPICS = frozenset({topics.RUNS, topics.METRICS, topics.LIVENESS, topics.REQUESTS})
MOST_SEGMENT_BYTES = 4 * 1024 * 1024
MOST_ARRIVING = 64
MOST_AT_ONCE = 8
"""Segments that are read, and published, at the same time; others wait, so that memory stays bounded."""
DEADLINE_S = 30.0
_STOP_S = 5.0
_MOST_TEXT = 1_000
_WRITER = re.compile(r"[0-9a-f]{32}\Z")


class Intake:
    """Publishes segments. Belongs to one event loop.

    Attributes:
        arriving: to be held while a segment is read, so that slow clients keep a bounded amount of memory.
        turn: to be held while it is checked and published.
    """

    def __init__(self, kafka: KafkaSettings, deadline_s: float = DEADLINE_S) -> None:
        """Connect with the first segment. ``deadline_s``: how long the log may take to acknowledge one."""
        self.arriving = asyncio.Semaphore(MOST_ARRIVING)
        self.turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._window = DeliveryWindow(kafka)
        self._deadline_s = deadline_s
        self._running: asyncio.Task[None] | None = None

    async def publish(self, segment: bytes, *, full: bool) -> list[SpooledEvent]:
        """Publish a segment's events, in order, and return them once the log has them all.

        ``full``: whoever brings them may do everything, and not only what training jobs do (``intake_rights.py``).

        Raises:
            InvalidRequest: it is no segment, or an event in it is not what it says or must not come this way; then none is
                published.
            TransientError: the log did not acknowledge in time. Some may be in it: send the segment again.
        """
        events = await asyncio.to_thread(checked_events, segment, full)
        arrival = _Arrival(len(events))
        records = [outgoing(event, arrival.acknowledged) for event in events]
        running = self._start()
        for record in records:
            self._window.submit(record)
        try:
            waited_for = {arrival.complete, running}
            await asyncio.wait(waited_for, timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._window.forget(records)  # whoever gives up, or is given up, sends them again
        if not arrival.complete.done():
            raise TransientError(self._why_not(running))
        return events

    async def close(self) -> None:
        """Stop publishing; what was not acknowledged is sent again by whoever brought it."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=_STOP_S)

    def _start(self) -> "asyncio.Task[None]":
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._window.run(), name="intake")
        return self._running

    def _why_not(self, running: "asyncio.Task[None]") -> str:
        if running.done():
            error = None if running.cancelled() else running.exception()
            return f"the gateway publishes no more: {'it stops' if error is None else describe(error)}"
        return self._window.refused or f"the log did not acknowledge within {self._deadline_s:g} s"


class _Arrival:
    """Counts the events of a segment as they arrive."""

    def __init__(self, events: int) -> None:
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = events

    def acknowledged(self, _metadata: object) -> None:
        """Hear that the log has one more."""
        self._left -= 1
        if not self._left and not self.complete.done():
            self.complete.set_result(None)


def checked_events(segment: bytes, full: bool = True) -> list[SpooledEvent]:
    """Return the events of a segment.

    Raises:
        InvalidRequest: see ``Intake.publish``.
    """
    try:
        events = decode_segment(segment)
    except ValueError as error:
        raise InvalidRequest(f"the body is no whole spool segment: {error}") from error
    if not events:
        raise InvalidRequest("the body is no whole spool segment: it holds no event")
    for place, event in enumerate(events):
        try:
            _check(event, full)
        except (PoisonEvent, InvalidRequest) as error:
            code = error.code if isinstance(error, InvalidRequest) else "INVALID_PARAMETER_VALUE"
            raise InvalidRequest(f"event {place} of the segment ({event.type[:40]}): {error}", code) from error
    return events


def outgoing(event: SpooledEvent, acknowledged: Callable[[Any], None]) -> Outgoing:
    """Return the record of an event, as the SDK itself would send it."""
    return Outgoing(
        topic=EVENT_TYPES[event.type].topic,
        key=event.key,
        value=event.value(),
        headers=event.headers(),
        timestamp_ms=event.time,
        acknowledged=acknowledged,
    )


def _check(event: SpooledEvent, full: bool) -> None:
    """Raises PoisonEvent or InvalidRequest: it cannot be applied, is not what it says, or must not come this way."""
    kind = EVENT_TYPES.get(event.type)
    if kind is None or kind.topic not in OPEN_TOPICS:
        raise InvalidRequest("clients publish facts about runs, and requests; nothing else")
    if len(event.body) > MAX_EVENT_BYTES:
        raise InvalidRequest(f"it has {len(event.body)} bytes; the limit is {MAX_EVENT_BYTES}")
    for text in (event.id, event.source, event.actor, event.cause):
        if len(text) > _MOST_TEXT or "\x00" in text:
            raise InvalidRequest(f"its envelope holds a text of more than {_MOST_TEXT} characters, or a NUL")
    from_headers(event.headers())
    body = decode(event.value())
    if not _WRITER.match(event.writer) or getattr(body, "writer_id", event.writer) != event.writer:
        raise InvalidRequest(f"writer {event.writer[:40]!r} is no writer id, or not the body's")
    if kind.topic != topics.REQUESTS:
        check_run_id(body.run_id)
    said = (event.type, event.subject, event.key)
    if said != (found := (type(body).__name__, subject_of(body), key_of(body, event.writer))):
        raise InvalidRequest(f"its envelope says {said}, its body {found}")
    check_rights(body, full)
