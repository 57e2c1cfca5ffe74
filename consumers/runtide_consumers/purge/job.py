"""Purging: a fact for every deleted run that is to go, then its files, then a fact that they are gone.

Safe to kill and to run twice: the folds ignore a purge of a run that is not deleted (any more), and files whose removal was not
told yet are looked for again. Nothing is removed before the state store itself says that the run is purged.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.purge.candidates import Candidates
from runtide_consumers.purge.files import place_of_run, remove_files
from runtide_schemas.errors import TransientError
from runtide_schemas.events.runs import RunArtifactsRemoved, RunPurged
from runtide_schemas.identity import now_ms

log = logging.getLogger(__name__)

_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOrder:
    """What is to be purged.

    Attributes:
        before_ms: runs deleted no later than this, Unix milliseconds.
        runs: only these; None: all.
        reason: why, for the receipt.
        actor: who, for the receipt.
        artifacts: folder or URI that the stack's artifacts are kept below; "": no files are removed.
        wait_s: how long to wait for the state store to have applied it, in seconds.
    """

    before_ms: int
    runs: Sequence[str] | None = None
    reason: str = ""
    actor: str = ""
    artifacts: str = ""
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Purged:
    """What was done: the runs that were purged, the files removed (of earlier purges too), and their bytes."""

    runs: tuple[str, ...]
    files: int
    bytes: int


async def purge(dsn: str, kafka: KafkaSettings, order: PurgeOrder, schema: str = "runtide") -> Purged:
    """Purge what is asked for.

    Args:
        dsn: the state store; it is read only.
        kafka: the log.
        order: what is to go.
        schema: PostgreSQL schema of the state.

    Raises:
        InvalidRequest: a run that was named cannot be purged; nothing was.
        TransientError: the store, the log or the artifacts are away; call it again.
    """
    candidates = Candidates(dsn, schema)
    try:
        async with DirectPublisher(kafka, service="purge") as publisher:
            chosen = await candidates.purgeable(order.before_ms, order.runs)
            for run_id in order.runs or ():
                if run_id not in chosen:
                    raise await candidates.refusal(run_id)
            for run_id in chosen:
                counts, checksum = await candidates.has(run_id)
                fact = RunPurged(run_id=run_id, at=now_ms(), reason=order.reason, checksum=checksum, **counts)
                await publisher.publish(fact, actor=order.actor)
            await _until_applied(candidates, chosen, order.wait_s)
            files, size = await _remove_files(candidates, publisher, order) if order.artifacts else (0, 0)
    finally:
        await candidates.close()
    return Purged(tuple(chosen), files, size)


async def _until_applied(candidates: Candidates, runs: Sequence[str], wait_s: float) -> None:
    """Wait until no run of these is deleted any more: it is purged, or was restored just before."""
    try:
        async with asyncio.timeout(wait_s):
            for run_id in runs:
                while await candidates.stage(run_id) == "deleted":  # noqa: ASYNC110 - another process's table has no event
                    await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise TransientError(
            f"{len(runs)} runs were purged in the log, and the projector has not applied it within {wait_s:g} s: is it "
            "running? Their files are removed by the next purge"
        ) from error


async def _remove_files(candidates: Candidates, publisher: DirectPublisher, order: PurgeOrder) -> tuple[int, int]:
    files = size = 0
    for run_id, uri in await candidates.with_files():
        place = place_of_run(order.artifacts, uri, run_id) if uri else ""
        if uri and not place:
            log.warning("the files of run %s stay where they are, %s: not below %s", run_id, uri, order.artifacts)
        removed = await asyncio.to_thread(remove_files, place) if place else None
        count, total = (removed.files, removed.bytes) if removed else (0, 0)
        fact = RunArtifactsRemoved(run_id=run_id, at=now_ms(), uri=place, files=count, bytes=total)
        await publisher.publish(fact, actor=order.actor)
        files, size = files + count, size + total
    return files, size
