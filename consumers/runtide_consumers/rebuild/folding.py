"""Folding a store from where it stands to exactly given positions, and saying how far it has come."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtide.kafka import KafkaSettings
from runtide_consumers.counters import Counters
from runtide_consumers.log_reader import BatchLimits
from runtide_consumers.projector import ProjectorSettings, run_projector
from runtide_consumers.rebuild.store import Positions, RebuildableStore
from runtide_consumers.rebuild.watch import Pace, Watch
from runtide_schemas.errors import FatalError

_TELL_S = 0.2
_SETTINGS = ProjectorSettings(limits=BatchLimits(max_bytes=16 * 1024 * 1024))
"""Nobody waits for a batch of a rebuild, and larger ones cost less per event."""


class Folding:
    """Brings the new store of a rebuild forward, with the very projector and projection that feed the live one."""

    def __init__(self, store: RebuildableStore, kafka: KafkaSettings, watch: Watch) -> None:
        self._store = store
        self._kafka = kafka
        self._watch = watch
        self._counters = Counters()
        self._folding_s = 0.0

    async def until(self, positions: Positions) -> None:
        """Fold all events before these positions, and no other.

        Raises:
            LogTruncated: the log does not hold all of them.
            FatalError: the new store then stands elsewhere: the log has not what the live store was folded from.
        """
        if not _moved(positions):
            await self._make()
        if _moved(await self._store.new_positions()) != _moved(positions):
            reached = asyncio.Event()
            async with self._telling(positions):
                await run_projector(
                    self._store.new(),
                    self._kafka,
                    stop=reached,
                    ready=reached.set,
                    settings=_SETTINGS,
                    counters=self._counters,
                    until=positions,
                )
        found = _moved(await self._store.new_positions())
        if found != _moved(positions):
            raise FatalError(
                f"folded to {_brief(found)}, and the live store stands at {_brief(_moved(positions))}: the log has not "
                "the events that it was folded from. The live store is as it was"
            )

    async def _make(self) -> None:
        """Make the new store, which is to be there although the log has nothing to fold."""
        new = self._store.new()
        await new.open()
        await new.close()

    @asynccontextmanager
    async def _telling(self, positions: Positions) -> AsyncIterator[None]:
        behind = sum(positions.values()) - sum((await self._store.new_positions()).values())
        total, begun = self._done() + behind, time.monotonic()

        async def tell() -> None:
            while True:
                await asyncio.sleep(_TELL_S)
                self._tell(total, self._folding_s + time.monotonic() - begun)

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self._folding_s += time.monotonic() - begun
            self._tell(total, self._folding_s)

    def _done(self) -> int:
        return self._counters.events + self._counters.parked

    def _tell(self, total: int, seconds: float) -> None:
        done = self._done()
        rate = done / seconds if seconds > 0 else 0.0
        self._watch.pace(Pace(done, total, rate, max(0, total - done) / rate if rate else None))


def _moved(positions: Positions) -> Positions:
    """Return the partitions that were read from at all: stores say 0 of the others, or nothing."""
    return {partition: offset for partition, offset in positions.items() if offset}


def _brief(positions: Positions) -> dict[str, int]:
    return {f"{topic}/{partition}": offset for (topic, partition), offset in sorted(positions.items())}
