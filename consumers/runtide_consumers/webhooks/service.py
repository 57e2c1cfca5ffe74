"""The process's loop: fold the catalogue from its beginning, then tell what comes; begin anew when the log was away."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from runtide.kafka import KafkaSettings
from runtide.webhooks import WebhookSettings
from runtide_consumers.decoding import decode_record
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.process import once
from runtide_consumers.progress import Progress
from runtide_consumers.projection import Parked, TopicPartition
from runtide_consumers.stopping import until_stopped
from runtide_consumers.webhooks.delivering import Deliverer
from runtide_consumers.webhooks.ledger import Ledger
from runtide_consumers.webhooks.subscribers import Subscribers
from runtide_schemas import topics
from runtide_schemas.errors import TransientError

log = logging.getLogger(__name__)

_LIMITS = BatchLimits(linger_s=0.0)
_PAUSE_S = 1.0
_CATALOG = TopicPartition(topics.CATALOG, 0)


async def run_webhooks(
    kafka: KafkaSettings,
    settings: WebhookSettings,
    ledger: Ledger,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None],
    progress: Progress,
) -> None:
    """Deliver until ``stop`` is set. ``ready`` is called once, when all that the log held at first is known.

    Raises:
        FatalError: the log cannot be read on, or the ledger not be written.
    """
    await until_stopped(_run(kafka, settings, ledger, once(ready), progress), stop)


async def _run(
    kafka: KafkaSettings, settings: WebhookSettings, ledger: Ledger, ready: Callable[[], None], progress: Progress
) -> None:
    while True:
        try:
            await _follow(kafka, settings, ledger, ready, progress)
        except TransientError as error:
            log.warning("webhooks: %s; beginning anew in %.1f s", error, _PAUSE_S)
            await asyncio.sleep(_PAUSE_S)


async def _follow(
    kafka: KafkaSettings, settings: WebhookSettings, ledger: Ledger, ready: Callable[[], None], progress: Progress
) -> None:
    reader = await LogReader.open(kafka, {topics.CATALOG}, {})
    read, wanted = reader.positions_at_start(), asyncio.Event()
    end = sum(reader.lag(read).values())
    subscribers = Subscribers(ledger.begin(end), ledger.positions())
    deliverer = Deliverer(subscribers, ledger, settings)
    wanted.set()
    try:
        while True:
            for record in await reader.fetch(_LIMITS, wanted):
                event = decode_record(record, reader.schemas.decoder)
                if isinstance(event, Parked):
                    log.error("catalogue record %d is skipped: %s", record.offset, event.reason)
                else:
                    subscribers.fold(record.offset, event.body)
                read[_CATALOG] = record.offset + 1
            if reader.read_to_end:
                ready()
                if subscribers.emptied():
                    await _refill(kafka, subscribers, read)
                await deliverer.look()
            progress.note(reader.heard_at(), sum(reader.lag(read).values()))
    finally:
        await deliverer.close()
        await reader.close()


async def _refill(kafka: KafkaSettings, subscribers: Subscribers, read: Mapping[TopicPartition, int]) -> None:
    """Read the catalogue again, as far as it was read, for those whose deliveries did not all fit into memory."""
    again, wanted = subscribers.begun_again(), asyncio.Event()
    wanted.set()
    reader = await LogReader.open(kafka, {topics.CATALOG}, {}, read)
    try:
        while not reader.read_to_end:
            for record in await reader.fetch(_LIMITS, wanted):
                event = decode_record(record, reader.schemas.decoder)
                if not isinstance(event, Parked):  # said when it was read first
                    again.fold(record.offset, event.body)
    finally:
        await reader.close()
    subscribers.refill(again)
