"""The registrar at work: fold the catalogue, then answer requests from the first one that has no answer.

The log is all there is: no store, no group offsets. Facts are published in the order of their requests and nothing is
given up once decided, so what stands in runtide.catalog is always an unbroken beginning of what was decided.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from runtide.direct import DirectPublisher
from runtide.kafka import MAX_EVENT_BYTES, KafkaSettings
from runtide_consumers.decoding import decode_record
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.progress import Progress
from runtide_consumers.projection import Event, Parked, TopicPartition
from runtide_consumers.registrar.deciding import decide, reject
from runtide_consumers.registrar.folding import apply
from runtide_consumers.registrar.state import Catalogue
from runtide_consumers.sequences import Admission, Sequence, admit
from runtide_consumers.stopping import until_stopped
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.confluent import DecoderById, no_registry
from runtide_schemas.envelope import Envelope, from_headers
from runtide_schemas.errors import InvalidRequest, PoisonEvent, TransientError

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 1024 * 1024
_LIMITS = BatchLimits(max_bytes=2 * MAX_REQUEST_BYTES, linger_s=0.0)
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_FOR_EVER_S = 10 * 365 * 86_400.0
"""Giving up a fact while later ones go on would leave its request without an answer for ever."""
_REQUESTS = TopicPartition(topics.REQUESTS, 0)


async def run_registrar(
    settings: KafkaSettings, *, stop: asyncio.Event, ready: Callable[[], None], progress: Progress | None = None
) -> None:
    """Answer requests until ``stop`` is set. ``ready`` is called once, when all that were there at first are answered.

    ``progress`` is told of every round in which all requests were answered.

    Raises:
        LogTruncated: the log lacks requests that have no answer.
    """
    await until_stopped(Registrar(settings, ready, progress).run(), stop)


class Registrar:
    """Owns the state, and nothing else writes the catalogue."""

    def __init__(
        self, settings: KafkaSettings, ready: Callable[[], None] = lambda: None, progress: Progress | None = None
    ) -> None:
        self._settings = settings
        self._progress = progress or Progress()
        self._ready: Callable[[], None] | None = ready
        self._state = Catalogue()
        self.answered = 0

    async def run(self) -> None:
        """Work until cancelled."""
        await self._patiently(self._fold_catalogue)
        async with DirectPublisher(self._settings, service="registrar", deadline=_FOR_EVER_S) as publisher:
            log.info("registrar goes on after request %d", self._state.last_request_offset)
            await self._patiently(lambda: self._serve(publisher))

    async def _patiently(self, work: Callable[[], Any]) -> None:
        """Do ``work``; begin it anew as often as the broker was away."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                await work()
            except TransientError as error:
                log.warning("registrar: %s; trying again in %.1f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                return

    async def _fold_catalogue(self) -> None:
        self._state = Catalogue()
        reader = await LogReader.open(self._settings, {topics.CATALOG}, {})
        wanted = _set_event()
        try:
            while not reader.read_to_end:
                for record in await reader.fetch(_LIMITS, wanted):
                    fold_record(self._state, record, reader.schemas.decoder)
        finally:
            await reader.close()

    async def _serve(self, publisher: DirectPublisher) -> None:
        start = {_REQUESTS: self._state.last_request_offset + 1}
        reader = await LogReader.open(self._settings, {topics.REQUESTS}, start)
        wanted = _set_event()
        try:
            while True:
                self._announce(reader)
                records = await reader.fetch(_LIMITS, wanted)
                await self._publish(publisher, answer_records(self._state, records, reader.schemas.decoder))
                self._progress.note(reader.heard_at())
        finally:
            await reader.close()

    async def _publish(self, publisher: DirectPublisher, answers: list[tuple[Envelope, Any]]) -> None:
        # Tasks begin in this order, and a publisher sends in the order of the calls.
        publishing = [
            asyncio.create_task(publisher.publish(fact, actor=envelope.actor, cause=envelope.id))
            for envelope, fact in answers
        ]
        await asyncio.gather(*publishing)
        self.answered += len(answers)

    def _announce(self, reader: LogReader) -> None:
        if self._ready is not None and reader.read_to_end:
            self._ready()
            self._ready = None


def fold_record(state: Catalogue, record: Any, by_id: DecoderById = no_registry) -> None:
    """Fold a record of the catalogue; one that is no fact of a registrar is logged and left out, as every fold does."""
    fact = decode_record(record, by_id)
    if isinstance(fact, Parked):
        log.error("catalogue record %d is skipped: %s", record.offset, fact.reason)
        return
    try:
        apply(state, fact.body)
    except KeyError as error:
        log.error("catalogue record %d contradicts the catalogue and is skipped: %r", record.offset, error)


def answer_records(
    state: Catalogue, records: Iterable[Any], by_id: DecoderById = no_registry
) -> list[tuple[Envelope, Any]]:
    """Decide each request that has no answer yet, in order, and return (envelope of the request, fact).

    A request that was answered before (its writer sent it again) gets no second answer. One that cannot be read but
    says who asks is rejected; one that does not even say that is logged and left out.
    """
    # All are decoded before one is answered: what stops the decoding must not stop between the state and its facts.
    requests = [(record, decode_record(record, by_id)) for record in records]
    answers = []
    for record, request in requests:
        if (answer := _answer(state, record, request)) is not None:
            apply(state, answer[1])
            answers.append(answer)
    return answers


def _answer(state: Catalogue, record: Any, request: Event | Parked) -> tuple[Envelope, Any] | None:
    envelope = request.envelope if isinstance(request, Event) else _envelope_of(record)
    if envelope is None:
        log.error("request %d is skipped, it has no readable envelope: %s", record.offset, _reason(request))
        return None
    _, admission = admit(state.writers.get(envelope.writer, Sequence()), envelope.seq)
    if admission is Admission.DUPLICATE:
        return None
    if isinstance(request, Parked):
        return envelope, reject(envelope, record.offset, InvalidRequest(f"request cannot be read: {request.reason}"))
    if (size := len(record.value or b"")) > MAX_REQUEST_BYTES:
        error = InvalidRequest(f"request has {size} bytes; the limit is {MAX_REQUEST_BYTES}")
        return envelope, reject(envelope, record.offset, error)
    return envelope, _of_fitting_size(decide(state, request), envelope, record.offset)


def _of_fitting_size(fact: Any, envelope: Envelope, offset: int) -> Any:
    """A fact repeats what was asked and adds to it; one that the broker would refuse becomes a rejection."""
    if (size := len(encode(fact))) <= MAX_EVENT_BYTES:
        return fact
    error = InvalidRequest(
        f"the answer would have {size} bytes; the limit is {MAX_EVENT_BYTES}: give less text and tags"
    )
    return reject(envelope, offset, error)


def _envelope_of(record: Any) -> Envelope | None:
    try:
        envelope = from_headers(record.headers)
    except PoisonEvent:
        return None
    texts = (envelope.id, envelope.writer, envelope.type, envelope.actor)
    return None if any("\x00" in text or len(text) > 250 for text in texts) else envelope


def _reason(request: Event | Parked) -> str:
    return request.reason if isinstance(request, Parked) else ""


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
