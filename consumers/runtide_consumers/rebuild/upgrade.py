"""What a projector does first when its store has an older layout: it rebuilds it, while the old one is read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from runtide.kafka import KafkaSettings
from runtide_consumers.rebuild.procedure import Wishes, rebuild
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.rebuild.watch import LogWatch
from runtide_consumers.stopping import until_stopped
from runtide_schemas.errors import TransientError

log = logging.getLogger(__name__)

_PAUSE_S = 1.0


async def upgrade(
    store: RebuildableStore, kafka: KafkaSettings, stop: asyncio.Event, begins: Callable[[], Awaitable[None]]
) -> None:
    """Rebuild a live store of an older layout and swap; return at once when there is none.

    ``begins`` is called before the work: from then on others may rely on the old store's answers. Differences are logged and
    accepted, as a new layout comes with a new fold. Set ``stop`` and it returns soon; the next start goes on from there.

    Raises:
        FatalError: the log does not go back to its beginning, say.
    """
    await until_stopped(_until_upgraded(store, kafka, begins), stop)


async def _until_upgraded(store: RebuildableStore, kafka: KafkaSettings, begins: Callable[[], Awaitable[None]]) -> None:
    begun = False
    while True:
        try:
            version = await store.live_version()
            if version is None or version >= store.layout_version:
                return
            if not begun:
                begun = True
                await begins()
            await rebuild(store, kafka, LogWatch(), Wishes(accept_differences=True))
        except TransientError as error:
            log.warning("the upgrade of %s waits: %s", store.name, error)
            await asyncio.sleep(_PAUSE_S)
