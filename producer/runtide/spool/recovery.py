"""Closing a dead writer's spool in its name, so that all of it can be sent."""

from collections.abc import Mapping
from pathlib import Path

from runtide.spool.limits import SpoolLimits
from runtide.spool.segment_format import SpooledEvent
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.runs import RunEnded, WriterClosed

_REASON = "the process ended without closing the run; recovered from its spool"


def recover(directory: Path, limits: SpoolLimits, *, ended: bool = False, log: str = "") -> WriterSpool:
    """Take over a spool whose owner is gone and make it complete.

    Points in the tail become events with the writer's next numbers. When the writer had not said that it ended, it
    is said now: WriterClosed with reason ``recovered``, after RunEnded KILLED when it was this writer's to end the
    run. Events that exist keep number and content, but for a WriterClosed that was not sent and counts events that lost
    power took; so doing this again, at any time, changes nothing.
    When the disk takes no events, points stay in the tail, the writer is not closed, and the next recovery does it.

    Args:
        directory: of the spool.
        limits: its bound.
        ended: take the caller's word that the writer has ended, and that a copy of its spool was made after that.
        log: bootstrap address of the broker that it is for: it begins after what others have sent there.

    Raises:
        SpoolBusy: the owner lives or may live, or somebody else has taken it over.
        FatalError: it is no spool that this version can read.
    """
    spool = WriterSpool.take_over(directory, limits, ended=ended, log=log)
    spool.points.close()
    last_logged = int(1000 * max(path.stat().st_mtime for path in directory.iterdir()))
    if not spool.seal():
        return spool
    if spool.manifest.run_id:
        _close_once(spool, last_logged)
    spool.settle()
    return spool


def _close_once(spool: WriterSpool, last_logged: int) -> None:
    last = _last_lifecycle_events(spool)
    closed = next((event for event in last if event.type == "WriterClosed"), None)
    if closed is not None and closed.seq >= spool.acked(topics.RUNS) and _counts_lost(closed, spool.counts):
        spool.take_back(topics.RUNS, closed.seq)  # it came to the disk before events that it counts, and they did not
        closed = None
    if closed is None:
        _close_writer(spool, last_logged, ended=any(event.type == "RunEnded" for event in last))


def _close_writer(spool: WriterSpool, at: int, ended: bool) -> None:
    manifest = spool.manifest
    if manifest.creator and not ended:
        spool.append(RunEnded(run_id=manifest.run_id, status="KILLED", end_time=at, reason=_REASON))
    counts = spool.counts
    counts[topics.RUNS] = counts.get(topics.RUNS, 0) + 1
    spool.append(
        WriterClosed(run_id=manifest.run_id, writer_id=manifest.writer_id, counts=counts, reason="recovered", at=at)
    )


def _counts_lost(event: SpooledEvent, there: Mapping[str, int]) -> bool:
    """Return True when a WriterClosed counts events that are not there, or points were made events anew since."""
    body = decode(event.value())
    counts = body.counts if isinstance(body, WriterClosed) else {}
    missing = counts.get(topics.REQUESTS, 0) > there.get(topics.REQUESTS, 0)
    return missing or counts.get(topics.METRICS, 0) != there.get(topics.METRICS, 0)


def _last_lifecycle_events(spool: WriterSpool) -> list[SpooledEvent]:
    """Return the last two lifecycle events: an end is never farther up."""
    last = spool.written(topics.RUNS)
    first = max(last - 2, spool.first_kept(topics.RUNS))
    return [event for seq in range(first, last) for event in spool.read(topics.RUNS, seq, 1)]
