"""The regular look for what retention gives up, partition by partition."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from typing import Final

from runtide_deploy.broker.log.partition_log import PartitionLog
from runtide_deploy.broker.topics import Topics

_MS_PER_SECOND: Final = 1000
logger = logging.getLogger(__name__)


async def sweep_for_ever(topics: Topics, interval_ms: int) -> None:
    """Sweep now, because a start may follow a long rest, and then after each ``interval_ms``."""
    while True:
        await sweep(topics, int(time.time() * _MS_PER_SECOND))
        await asyncio.sleep(interval_ms / _MS_PER_SECOND)


async def sweep(topics: Topics, now_ms: int) -> None:
    """Delete what retention gives up at ``now_ms``; files go in a thread, and one partition's trouble is its own."""
    for log in _logs(topics):
        try:
            trim = log.plan_trim(now_ms)
            if trim is not None:
                log.finish_trim(trim, await _finished(asyncio.to_thread(trim.run)))
        except (OSError, RuntimeError) as error:  # also that no thread can be started: the next look may find one
            logger.error("cannot delete what retention gives up of %s: %s", log.folder, error)
        await asyncio.sleep(0)


async def _finished(work: Coroutine[None, None, int]) -> int:
    """Wait for a thread also when cancelled: nobody may open the data directory while files still go."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait([task])


def _logs(topics: Topics) -> Iterator[PartitionLog]:
    for topic in topics:
        yield from tuple(topic.partitions)
