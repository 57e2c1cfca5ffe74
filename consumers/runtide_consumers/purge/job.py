"""Purging: a fact for every deleted run that is to go, then its files, then a fact that they are gone.

Safe to kill and to run twice: the folds ignore a purge of a run that is not deleted (any more), and files whose removal was not
told yet are looked for again. Nothing is removed before the state store itself says that the run is purged.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.purge.candidates import Candidates, WithFiles
from runtide_consumers.purge.files import Places, Removed, check_root, place_of_model, place_of_run, remove_files
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


@dataclass(slots=True)
class Told:
    """What one process has told already, from round to round.

    Attributes:
        purges: runs whose purge is in the log and not in the state store yet, and when they were deleted.
        kept: runs and models of which it was said that their files stay.
    """

    purges: dict[str, int] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)


async def purge(
    dsn: str, kafka: KafkaSettings, order: PurgeOrder, schema: str = "runtide", told: Told | None = None
) -> Purged:
    """Purge what is asked for.

    Args:
        dsn: the state store; it is read only.
        kafka: the log.
        order: what is to go.
        schema: PostgreSQL schema of the state.
        told: what was told before by who asks again and again; it is brought up to date.

    Raises:
        InvalidRequest: a run that was named cannot be purged, or the artifact root is not there; nothing was purged.
        TransientError: the store, the log or the artifacts are away; call it again.
    """
    if order.artifacts:
        check_root(order.artifacts)
    candidates = Candidates(dsn, schema)
    try:
        async with DirectPublisher(kafka, service="purge") as publisher:
            job = _Purging(candidates, publisher, order, told or Told())
            runs = await job.tell()
            late = await job.until_applied(runs)
            if order.artifacts:
                await job.remove_files()
            if late is not None:
                raise late
    finally:
        await candidates.close()
    return Purged(tuple(runs), job.files, job.bytes)


class _Purging:
    def __init__(self, candidates: Candidates, publisher: DirectPublisher, order: PurgeOrder, told: Told) -> None:
        self._candidates, self._publisher, self._order, self._told = candidates, publisher, order, told
        self.files = self.bytes = 0

    async def tell(self) -> list[str]:
        """Publish the fact for every run that is due and was not told of yet; return those runs."""
        await self._forget_applied()
        order, told = self._order, self._told.purges
        chosen = await self._candidates.purgeable(order.before_ms, order.runs, told)
        for run_id in order.runs or ():
            if run_id not in chosen and run_id not in told:
                raise await self._candidates.refusal(run_id)
        for run_id, deleted_at in chosen.items():
            counts, checksum = await self._candidates.has(run_id)
            fact = RunPurged(run_id=run_id, at=now_ms(), reason=order.reason, checksum=checksum, **counts)
            await self._publisher.publish(fact, actor=order.actor)
            told[run_id] = deleted_at
        return list(chosen)

    async def _forget_applied(self) -> None:
        for run_id in list(self._told.purges):
            if await self._candidates.stage(run_id) != "deleted":
                del self._told.purges[run_id]
        if self._told.purges:
            log.warning("%d runs were purged in the log, and the projector has not applied it", len(self._told.purges))

    async def until_applied(self, runs: Sequence[str]) -> TransientError | None:
        """Wait until no run of these is deleted any more: it is purged, or was restored just before; return why not."""
        try:
            async with asyncio.timeout(self._order.wait_s):
                for run_id in runs:
                    while await self._candidates.stage(run_id) == "deleted":  # noqa: ASYNC110 - another process's table has no event
                        await asyncio.sleep(_POLL_S)
                    self._told.purges.pop(run_id, None)
        except TimeoutError:
            return TransientError(
                f"{len(runs)} runs were purged in the log, and the projector has not applied it within "
                f"{self._order.wait_s:g} s: is it running? Their files are removed by the next purge"
            )
        return None

    async def remove_files(self) -> None:
        """Remove the files of purged runs and of their logged models, and say so of each.

        Raises:
            TransientError: those of some could not be removed; all others were.
        """
        failed: list[TransientError] = []
        async for some in self._candidates.with_files():
            places = {one: self._place_of(one) for one in some if one.uri}
            shared = await self._shared(places.values())
            for one in some:
                place = places.get(one, "")
                if why := self._why_kept(one, place, shared):
                    self._say_kept(one, why)
                    continue
                try:
                    await self._remove(one, place)
                except TransientError as error:
                    log.warning("the files of %s are not removed yet: %s", one, error)
                    failed.append(error)
        if failed:
            raise TransientError(
                f"the files of {len(failed)} purged runs and models are not removed yet: {failed[0]}"
            ) from failed[0]

    def _place_of(self, one: WithFiles) -> str:
        if one.model_id:
            return place_of_model(self._order.artifacts, one.uri, one.model_id)
        return place_of_run(self._order.artifacts, one.uri, one.run_id)

    async def _shared(self, places: Collection[str]) -> dict[str, str]:
        """Return which of these places somebody has a share in who was not purged, and who."""
        found: dict[str, str] = {}
        wanted = Places(self._order.artifacts, filter(None, places))
        if any(places):
            async for whose, uri in self._candidates.kept_places():
                found |= dict.fromkeys(wanted.shared_with(uri), whose)
        return found

    def _why_kept(self, one: WithFiles, place: str, shared: Mapping[str, str]) -> str:
        if one.claimed:
            return "another run tells of that model, too"
        if one.uri and not place:
            whose = "that model" if one.model_id else "that run"
            return f"this is no folder of {whose} alone below {self._order.artifacts}"
        return f"{shared[place]} has files there, too" if place in shared else ""

    def _say_kept(self, one: WithFiles, why: str) -> None:
        if str(one) not in self._told.kept:
            log.warning("the files of %s stay where they are, %s: %s", one, one.uri, why)
            self._told.kept.add(str(one))

    async def _remove(self, one: WithFiles, place: str) -> None:
        removed = await asyncio.to_thread(remove_files, place) if place else Removed(0, 0)
        uri = one.uri if one.model_id else place  # by which the fold knows a model's
        fact = RunArtifactsRemoved(run_id=one.run_id, at=now_ms(), uri=uri, files=removed.files, bytes=removed.bytes)
        await self._publisher.publish(fact, actor=self._order.actor)
        self.files, self.bytes = self.files + removed.files, self.bytes + removed.bytes
