"""The steps of a rebuild, the same for every store.

1. Fold the log from its beginning into a new store beside the live one, up to where that stands.
2. Hold on to what the live store says at one moment, fold the new one to exactly the same positions, and compare the two
   entity by entity. The live projector goes on meanwhile, and so do writers and readers.
3. Fold what has come since; let the live projector wait, fold the last events, swap, and let it go on from the new store.

Whatever ends a rebuild before the swap, the live store is as it was. Nothing is published.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from runtide.kafka import KafkaSettings, cluster_id
from runtide_consumers.log_reader import LogReader
from runtide_consumers.projection import TopicPartition
from runtide_consumers.rebuild.code import hash_of_code
from runtide_consumers.rebuild.comparison import Comparison, compare
from runtide_consumers.rebuild.folding import Folding
from runtide_consumers.rebuild.store import Busy, Positions, RebuildableStore
from runtide_consumers.rebuild.watch import Watch
from runtide_schemas.errors import FatalError, InvalidRequest, LogTruncated

NEAR_EVENTS = 500
"""So few events behind, the live projector may be halted for them."""
_MOST_ROUNDS = 20
_SWAP_TRIES = 60
_SWAP_PAUSE_S = 0.5


class StoresDiffer(FatalError):
    """The rebuilt store says other things than the live one; the message names them. Nothing was swapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is wanted of a rebuild.

    Attributes:
        accept_differences: swap although the stores say different things: a fold was changed on purpose.
        from_version: rebuild only a live store of this layout version, and leave any other alone; None: rebuild any.
    """

    accept_differences: bool = False
    from_version: int | None = None


async def rebuild(store: RebuildableStore, kafka: KafkaSettings, watch: Watch, wishes: Wishes) -> Comparison | None:
    """Rebuild a store and return how the new one compared; None when the live one is not of the version asked for.

    Raises:
        InvalidRequest: there is no live store.
        LogTruncated: log and archive do not go back to the beginning.
        StoresDiffer: they do, and that was not accepted.
        Busy: a reader was in the way of the swap for half a minute; another rebuild goes on from there.
        FatalError: another rebuild is at work, or the live store was folded from another log.
    """
    async with store.alone():
        version = await store.live_version()
        if version is None:
            raise InvalidRequest(
                f"there is no {store.name} store to rebuild; its projector folds the log when it starts"
            )
        if wishes.from_version not in {None, version}:
            watch.step(f"the live store has layout version {version}, not {wishes.from_version}: nothing to do")
            return None
        watch.step(f"live store: layout version {version}; the new one: {store.layout_version}")
        await _check_whole(store, kafka)
        resumed = await store.prepare(await made_by(kafka, store.code))
        watch.step("going on with the new store of a rebuild that did not end" if resumed else "folding the log anew")
        folding = Folding(store, kafka, watch)
        await _come_near(store, folding)
        comparison = await _compared(store, folding)
        for line in comparison.lines():
            watch.step(line)
        if comparison.differences and not wishes.accept_differences:
            raise StoresDiffer(_refusal(store, comparison))
        await _come_near(store, folding)
        await _among_readers(lambda: _swap(store, folding))
        watch.step(f"swapped; the store before is kept: `runtide rebuild {store.name} --rollback` goes back to it")
        return comparison


async def roll_back(store: RebuildableStore, watch: Watch, wishes: Wishes | None = None) -> None:
    """Go back to the store that the last swap replaced; its projector then folds what it has missed.

    Raises:
        InvalidRequest: there is none, or this program cannot go on in it; or a wish is one for a rebuild.
        FatalError: a rebuild is at work, or the live store's process has other code.
    """
    if wishes is not None and wishes != Wishes():
        raise InvalidRequest(
            "--rollback goes back to the store before, as it is: leave out --accept-differences and --from-version"
        )
    async with store.alone():
        await _among_readers(store.roll_back)
        watch.step("swapped back; the projector folds what has come since, and the other store is kept")


async def made_by(kafka: KafkaSettings, code: Sequence[str] = ()) -> str:
    """Return what tells the code that folds, and the log that it reads, from any other: a hash of both.

    Args:
        kafka: the log.
        code: modules or packages beside ours whose code folds.
    """
    return hashlib.sha256(f"{await cluster_id(kafka)}\0{hash_of_code(code)}".encode()).hexdigest()


async def _check_whole(store: RebuildableStore, kafka: KafkaSettings) -> None:
    nothing: Mapping[TopicPartition, int] = {}
    try:
        reader = await LogReader.open(kafka, store.new().topics, nothing, nothing)
    except LogTruncated as error:
        raise LogTruncated(
            f"the {store.name} store cannot be rebuilt: {error}. What is in neither log nor archive is in the live store "
            "alone, which is as it was"
        ) from error
    await reader.close()


async def _come_near(store: RebuildableStore, folding: Folding) -> None:
    """Fold until little is missing, or until the live store moves on as fast as we do: then it has to be halted."""
    behind = 0
    for _ in range(_MOST_ROUNDS):
        positions = await store.live_positions()
        await folding.until(positions)
        before, behind = behind, _events(await store.live_positions()) - _events(positions)
        if behind <= NEAR_EVENTS or 0 < before <= behind:
            return


def _events(positions: Positions) -> int:
    return sum(positions.values())


async def _compared(store: RebuildableStore, folding: Folding) -> Comparison:
    async with store.frozen() as live:
        await folding.until(live.positions)
        async with store.rebuilt() as rebuilt:
            return await compare(live.digests, rebuilt, store.shares)


async def _swap(store: RebuildableStore, folding: Folding) -> None:
    async with store.halted() as live:
        await folding.until(live.positions)
        await live.swap()


async def _among_readers(step: Callable[[], Awaitable[None]]) -> None:
    """Try a step again while readers are in its way."""
    for _ in range(_SWAP_TRIES):
        try:
            return await step()
        except Busy:
            await asyncio.sleep(_SWAP_PAUSE_S)
    return await step()


def _refusal(store: RebuildableStore, comparison: Comparison) -> str:
    first = "; ".join(map(str, comparison.differences[:5]))
    return (
        f"the rebuilt {store.name} store says other things than the live one of {len(comparison.differences):,} of "
        f"{comparison.entities:,} entities: {first}. Nothing was swapped. If that is what a changed fold is meant to do, "
        f"run `runtide rebuild {store.name} --accept-differences`: it goes on from here"
    )
