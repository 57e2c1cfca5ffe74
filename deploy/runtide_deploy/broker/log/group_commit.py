"""Group commit: one fdatasync round for everything written since the last one, in a worker thread."""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from runtide_deploy.broker.log.segment import SegmentFile

_SYNC_THREADS = 4
"""Files of one round are synced in parallel: their journal commits then share one disk round trip."""


class Flushable(Protocol):
    """Something that writes files and wants to know when they are stored."""

    def unflushed(self) -> tuple[SegmentFile, int]:
        """Return the file to sync and a mark of what it holds now."""
        ...

    def flushed(self, mark: int) -> None:
        """Take note that everything up to ``mark`` is on disk."""
        ...


class GroupCommit:
    """Syncs dirty files in rounds; after each it rests as long as that took, at most ``delay`` seconds.

    So the disk is busy half of the time at most, writers of a fast disk hardly wait, and those of a slow one share
    larger rounds. The first write after a rest is synced at once.

    A failed sync is final: the kernel may have dropped the pages and report success next time, so nothing is
    acknowledged any more and ``on_failure`` is called once (the owner exits).
    """

    def __init__(self, delay: float, on_failure: Callable[[OSError], None]) -> None:
        self._delay = delay
        self._on_failure = on_failure
        self._dirty: dict[Flushable, None] = {}
        self._round: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_start = 0.0
        self._failed = False
        self._threads = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="broker-sync")

    def mark(self, dirty: Flushable) -> asyncio.Future[None]:
        """Return the future of the round that will cover what ``dirty`` has written so far.

        The future is shared: wait for it through ``asyncio.shield``. It never completes after a failed sync.
        """
        self._dirty[dirty] = None
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        if self._task is None and not self._failed:
            self._task = asyncio.create_task(self._commit_rounds(), name="group-commit")
        return self._round

    async def _commit_rounds(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._round is not None:
                await asyncio.sleep(max(0.0, self._next_start - loop.time()))
                started = loop.time()
                dirty, done = tuple(self._dirty), self._round
                self._dirty, self._round = {}, None
                await self._sync(dirty)
                self._next_start = loop.time() + min(self._delay, loop.time() - started)
                done.set_result(None)
        except OSError as error:
            self._failed = True
            self._on_failure(error)
        finally:
            self._task = None

    async def _sync(self, dirty: Sequence[Flushable]) -> None:
        loop = asyncio.get_running_loop()
        marks = [flushable.unflushed() for flushable in dirty]
        await asyncio.gather(*(loop.run_in_executor(self._threads, _sync_file, file) for file, _ in marks))
        for flushable, (_, mark) in zip(dirty, marks, strict=True):
            flushable.flushed(mark)

    def sync_now(self, file: SegmentFile) -> None:
        """Sync one file before returning.

        Raises:
            OSError: it failed, which is final as in a round.
        """
        try:
            _sync_file(file)
        except OSError as error:
            self._failed = True
            self._on_failure(error)
            raise

    async def close(self) -> None:
        """Finish the round in progress and everything still dirty."""
        while (task := self._task) is not None:
            await asyncio.wait([task])
        self._threads.shutdown()


def _sync_file(file: SegmentFile) -> None:
    os.fdatasync(file.number)
