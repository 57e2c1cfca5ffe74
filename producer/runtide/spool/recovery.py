"""Closing a dead writer's spool in its name, so that all of it can be sent."""

from pathlib import Path

from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.events.runs import RunEnded, WriterClosed

_REASON = "the process ended without closing the run; recovered from its spool"


def recover(directory: Path, limits: SpoolLimits) -> WriterSpool:
    """Take over a spool whose owner is gone and make it complete.

    Points in the tail become events with the writer's next numbers. When the writer had not said that it ended, it
    is said now: WriterClosed with reason ``recovered``, after RunEnded KILLED when it was this writer's to end the
    run. Events that exist keep number and content; so doing this again, at any time, changes nothing.
    When the disk takes no events, points stay in the tail, the writer is not closed, and the next recovery does it.

    Raises:
        SpoolBusy: the owner lives, or somebody else has taken it over.
        FatalError: it is no spool that this version can read.
    """
    spool = WriterSpool.take_over(directory, limits)
    spool.points.close()
    last_logged = int(1000 * max(path.stat().st_mtime for path in directory.iterdir()))
    if not spool.seal():
        return spool
    types = _types_of_last(spool)
    if spool.manifest.run_id and "WriterClosed" not in types:
        _close_writer(spool, last_logged, ended="RunEnded" in types)
    return spool


def _close_writer(spool: WriterSpool, at: int, ended: bool) -> None:
    manifest = spool.manifest
    if manifest.creator and not ended:
        spool.append(RunEnded(run_id=manifest.run_id, status="KILLED", end_time=at, reason=_REASON))
    counts = spool.counts
    counts[topics.RUNS] = counts.get(topics.RUNS, 0) + 1
    spool.append(
        WriterClosed(run_id=manifest.run_id, writer_id=manifest.writer_id, counts=counts, reason="recovered", at=at)
    )


def _types_of_last(spool: WriterSpool) -> set[str]:
    """Return the types of the last two lifecycle events: an end is never farther up."""
    last = spool.written(topics.RUNS)
    first = max(last - 2, spool.first_kept(topics.RUNS))
    return {event.type for seq in range(first, last) for event in spool.read(topics.RUNS, seq, 1)}
