"""The watcher at work: folds runtide.runs from its beginning and signs of life from now on; the log is all it has."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.decoding import decode_record
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.process import once
from runtide_consumers.progress import Progress
from runtide_consumers.projection import Parked, TopicPartition
from runtide_consumers.stopping import until_stopped
from runtide_consumers.watcher.silence import TELLING, Silence
from runtide_schemas import topics
from runtide_schemas.confluent import DecoderById, no_registry
from runtide_schemas.envelope import from_headers
from runtide_schemas.errors import PoisonEvent, TransientError
from runtide_schemas.identity import now_ms

log = logging.getLogger(__name__)

_LIMITS = BatchLimits(linger_s=0.0)
_PAUSE_S = 1.0
_REST_S = 0.1
"""Between two looks at the end of the log: leases are of seconds, and each look costs as much as many records."""
_FOR_EVER_S = 10 * 365 * 86_400.0
_NEARLY_ALL = 5_000
"""Behind the log by no more records than this, it is at its end: under load there is always something on its way."""
_TELLING = frozenset(kind.__name__ for kind in TELLING)


async def run_watcher(
    settings: KafkaSettings, *, stop: asyncio.Event, ready: Callable[[], None], progress: Progress
) -> None:
    """Watch until ``stop`` is set. ``ready`` is called once, when all that the log held at first is folded."""
    await until_stopped(_run(settings, ready, progress), stop)


async def _run(settings: KafkaSettings, ready: Callable[[], None], progress: Progress) -> None:
    announce = once(ready)
    async with DirectPublisher(settings, service="watcher", deadline=_FOR_EVER_S) as publisher:
        while True:
            try:
                await _watch(settings, publisher, announce, progress)
            except TransientError as error:
                log.warning("watcher: %s; beginning anew in %.1f s", error, _PAUSE_S)
                await asyncio.sleep(_PAUSE_S)


async def _watch(
    settings: KafkaSettings, publisher: DirectPublisher, announce: Callable[[], None], progress: Progress
) -> None:
    silence, read, wanted = Silence(), dict[TopicPartition, int](), asyncio.Event()
    wanted.set()
    # What retention has removed is about writers that have been silent for long: they are nobody's to watch any more.
    reader = await LogReader.open(
        settings,
        {topics.RUNS, topics.LIVENESS},
        {},
        from_begin=frozenset({topics.RUNS}),
        from_end=frozenset({topics.LIVENESS}),
    )
    read |= reader.positions_at_start()
    try:
        while True:
            for record in await reader.fetch(_LIMITS, wanted):
                fold_record(silence, record, reader.schemas.decoder)
                read[TopicPartition(record.topic, record.partition)] = record.offset + 1
            behind = sum(reader.lag(read).values())
            silence.advance(reader.heard_at(), behind <= _NEARLY_ALL)
            if reader.read_to_end:
                announce()
                await _state(silence, publisher)
            progress.note(reader.heard_at(), behind)
            if behind <= _NEARLY_ALL:
                await asyncio.sleep(_REST_S)
    finally:
        await reader.close()


async def _state(silence: Silence, publisher: DirectPublisher) -> None:
    for fact in list(silence.decide(now_ms())):
        log.info("%s: run %s, loss %d", type(fact).__name__, fact.run_id, fact.episode)
        await publisher.publish(fact)
        silence.fold(publisher.writer, fact.at, fact)


def fold_record(silence: Silence, record: Any, by_id: DecoderById = no_registry) -> None:
    """Fold a record; one that cannot be read says nothing about its writer."""
    try:
        envelope = from_headers(record.headers)
    except PoisonEvent as error:
        log.error("record %d of %s/%d is skipped: %s", record.offset, record.topic, record.partition, error)
        return
    if record.topic != topics.RUNS or envelope.type not in _TELLING:
        silence.hear(envelope.subject, envelope.writer, envelope.time)
        return
    event = decode_record(record, by_id)
    if isinstance(event, Parked):
        log.error("record %d of %s/%d is skipped: %s", record.offset, record.topic, record.partition, event.reason)
    else:
        silence.fold(envelope.writer, envelope.time, event.body)
