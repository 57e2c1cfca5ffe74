"""Sends what waits, webhook beside webhook, each in its own order: one that does not answer holds up nobody else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from runtide.http_exchange import Response
from runtide.webhooks import Delivery, DeliveryFailed, Seal, WebhookSettings, send
from runtide_consumers.webhooks.ledger import Ledger
from runtide_consumers.webhooks.subscribers import Item, Subscriber, Subscribers
from runtide_schemas.errors import FatalError, InvalidRequest

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Deliveries that are on their way at the same time."""
LONGEST_PAUSE_S = 60.0
Send = Callable[[Delivery, WebhookSettings], Awaitable[Response]]


class Deliverer:
    """Delivers for as long as ``look`` is called; belongs to one event loop."""

    def __init__(
        self, subscribers: Subscribers, ledger: Ledger, settings: WebhookSettings, *, send: Send = send
    ) -> None:
        self._subscribers = subscribers
        self._ledger = ledger
        self._settings = settings
        self._send = send
        self._free = asyncio.Semaphore(MOST_AT_ONCE)
        self._working: dict[str, asyncio.Task[None]] = {}

    async def look(self) -> None:
        """Begin to tell those that have something waiting and are not being told already.

        Raises:
            FatalError: the ledger cannot be written.
        """
        while self._subscribers.gone:
            webhook_id = self._subscribers.gone.pop()
            if (task := self._working.pop(webhook_id, None)) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await self._ledger.forget(webhook_id)
        for webhook_id, task in list(self._working.items()):
            if task.done():
                del self._working[webhook_id]
                task.result()
        for one in self._subscribers.by_id.values():
            if one.waiting and one.webhook_id not in self._working:
                self._working[one.webhook_id] = asyncio.create_task(self._tell(one), name=f"webhook {one.webhook_id}")

    async def close(self) -> None:
        """Stop; what was not taken by then is told after the next start."""
        for task in self._working.values():
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        self._working.clear()

    async def settled(self) -> None:
        """Wait until nothing is on its way."""
        await asyncio.gather(*self._working.values())

    async def _tell(self, one: Subscriber) -> None:
        while one.waiting:
            item = one.waiting[0]
            await self._deliver(one, item)
            one.waiting.popleft()
            if not one.waiting or one.waiting[0].offset != item.offset:
                one.next_offset = item.offset + 1
                await self._ledger.done(one.webhook_id, one.next_offset)

    async def _deliver(self, one: Subscriber, item: Item) -> None:
        """Try until it is taken or given up."""
        for attempt in range(1, self._settings.attempts + 1):
            if not one.active:
                log.info("webhook %s is disabled: %s is not told", one.webhook_id, item.told.event)
                return
            try:
                async with self._free:
                    await self._send(self._delivery(one, item), self._settings)
                return
            except (DeliveryFailed, InvalidRequest, FatalError) as error:
                again = isinstance(error, DeliveryFailed) and error.again and attempt < self._settings.attempts
                what = f"webhook {one.webhook_id}: {item.told.event} of catalogue record {item.offset}"
                if not again:
                    log.error("%s is given up after %d attempts: %s", what, attempt, error)
                    return
                asked = error.after_s if isinstance(error, DeliveryFailed) else 0.0
                pause = min(max(self._settings.pause_seconds * 2 ** (attempt - 1), asked), LONGEST_PAUSE_S)
                log.warning("%s: %s; trying again in %.1f s", what, error, pause)
            await asyncio.sleep(pause)

    def _delivery(self, one: Subscriber, item: Item) -> Delivery:
        secret = Seal.of(self._settings.key_file).open(one.secret) if one.secret else ""
        return Delivery(one.url, item.delivery_id(one.webhook_id), item.told.body(item.at), secret)
