"""Sending spools: ``runtide sync DIR...``, any number of times, safely, while their writers go on or after they ended.

A spool whose writer is gone is recovered, sent wholly and deleted. One whose writer lives, or may live where we cannot
see it, is followed: what has a number is sent, and the rest is left to its owner (``spool/following.py``).
"""

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtide.kafka import KafkaSettings
from runtide.kafka_transport import KafkaTransport
from runtide.publisher.publisher import Publisher
from runtide.publisher.shippable import Shippable
from runtide.publisher.transport import Transport
from runtide.spool.following import FollowedSpool
from runtide.spool.limits import SpoolLimits
from runtide.spool.liveness import SpoolBusy
from runtide.spool.manifest import FILE as MANIFEST_FILE
from runtide.spool.manifest import SENT_FILE
from runtide.spool.recovery import recover
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas.errors import FatalError, TransientError


@dataclass(frozen=True, slots=True)
class SpoolReport:
    """What became of one spool.

    Attributes:
        directory: the spool.
        run_id: the run; empty when its manifest cannot be read.
        events: events that were not acknowledged before, as far as they may be sent.
        sent: those of them that the broker has now.
        problem: why not all; empty when all is sent and the spool is deleted, or its living writer has the rest.
        skipped: True when it was left alone, because its writer or somebody else sends it.
        followed: True when its writer lives, or may live, and only what has a number was sent.
        note: what a spool that is not deleted waits for, when that is no problem.
    """

    directory: Path
    run_id: str
    events: int
    sent: int
    problem: str = ""
    skipped: bool = False
    followed: bool = False
    note: str = ""

    @property
    def state(self) -> Literal["sent", "followed", "left alone", "not sent"]:
        """What was done, in a word."""
        if self.followed:
            return "followed"
        return "left alone" if self.skipped else "not sent" if self.problem else "sent"


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What became of all spools.

    Attributes:
        spools: each of them.
        refused: why the broker will never let us in, as the settings are; empty when that is not so.
    """

    spools: tuple[SpoolReport, ...]
    refused: str = ""

    @property
    def complete(self) -> bool:
        """True when nothing is left but what living writers send themselves, or have yet to put on their disk."""
        return not any(spool.problem for spool in self.spools)

    @property
    def open(self) -> bool:
        """True when writers go on, or may: there may be more to send later."""
        return any(spool.followed or spool.skipped for spool in self.spools)


Progress = Callable[[Path, int, int], None]
"""Called with (spool, events sent, events in all) while one is being sent."""


def no_progress(directory: Path, sent: int, total: int) -> None:
    """Hear nothing."""


def find_spools(directories: Iterable[Path]) -> Iterator[Path]:
    """Yield the writers' spools in or below directories, e.g. of a whole spool, a run, or a single writer."""
    for directory in directories:
        if (directory / MANIFEST_FILE).exists():
            yield directory
        else:
            yield from sorted(path.parent for path in directory.glob(f"*/{MANIFEST_FILE}"))
            yield from sorted(path.parent for path in directory.glob(f"*/*/{MANIFEST_FILE}"))


def sync(
    directories: Iterable[Path],
    to: Transport | KafkaSettings,
    progress: Progress = no_progress,
    timeout: float = 60.0,
    *,
    ended: bool = False,
) -> SyncReport:
    """Send what spools hold, and delete each that the broker has wholly.

    A writer that died is closed in its own name: points that it had not made events of become events, with the next
    numbers of its own sequence, so that sending again, or sending what the broker had already, changes nothing.
    A writer that lives is never closed, and one of which nothing is known only when the caller knows.

    Args:
        directories: spools, or directories that hold them.
        to: the way to the log, or the settings of its broker. A spool belongs to one log: an address that others have not
            sent it to gets all of it.
        progress: hears how far each spool is.
        timeout: seconds without any progress after which a spool is given up for now.
        ended: the writers have ended of which that is not known here, and copies were made after that.
    """
    transport = _transport(to)
    publisher = Publisher(transport, linger=0.01, idle=math.inf)
    sending = _Sending(publisher, transport.address, progress, timeout, ended)
    directories = list(directories)
    _delete_sent(directories)
    damaged = _release_imports(directories)
    try:
        spools = tuple(sending.sync(path) for path in find_spools(directories))
        return SyncReport((*spools, *damaged), sending.refused)
    finally:
        publisher.stop()


def _transport(to: Transport | KafkaSettings) -> Transport:
    return KafkaTransport(to) if isinstance(to, KafkaSettings) else to


def _release_imports(directories: Iterable[Path]) -> list[SpoolReport]:
    """Bring spools that a killed import had noted to where they are found; an import under way does so itself.

    Returns those that stay where they are, because nobody can say whether they are whole.
    """
    from runtide.importing.ledger import DIRECTORY, Ledger

    damaged: dict[Path, str] = {}
    for directory in directories:
        if (directory / DIRECTORY).is_dir():
            with contextlib.suppress(TransientError), Ledger(directory).locked() as ledger:
                damaged |= ledger.sweep().damaged
    return [SpoolReport(place, place.name, 0, 0, why) for place, why in damaged.items()]


def _delete_sent(directories: Iterable[Path]) -> None:
    """Delete what is left of spools that were delivered, where the process or the machine died while it deleted them."""
    for directory in directories:
        for pattern in (SENT_FILE, f"*/{SENT_FILE}", f"*/*/{SENT_FILE}"):
            for path in directory.glob(pattern):
                shutil.rmtree(path.parent, ignore_errors=True)


@dataclass(slots=True)
class _Sending:
    """One call of ``sync``; ``refused``: why we are not let in, as a publisher forgets it with the spool that heard it."""

    publisher: Publisher
    log: str
    progress: Progress
    timeout: float
    ended: bool
    refused: str = ""

    def sync(self, directory: Path) -> SpoolReport:
        try:
            return self._finish(recover(directory, SpoolLimits(), ended=self.ended, log=self.log))
        except SpoolBusy as busy:
            return self._without_owner(directory, busy)
        except (FatalError, OSError) as error:
            return SpoolReport(directory, "", 0, 0, str(error))

    def _without_owner(self, directory: Path, busy: SpoolBusy) -> SpoolReport:
        try:
            spool = FollowedSpool(directory, self.log)
            if busy.standing != "unknown" and spool.state.delivery in {"works", "unknown"}:
                return SpoolReport(directory, spool.manifest.run_id, 0, 0, skipped=True, note=f"{busy}, and sends it")
            if busy.standing == "unknown" and spool.complete:
                with contextlib.suppress(SpoolBusy):  # a directory that cannot be written
                    return self._finish(recover(directory, SpoolLimits(), ended=True, log=self.log))
            return self._follow(spool, busy)
        except (FatalError, OSError) as error:
            return SpoolReport(directory, directory.parent.name, 0, 0, str(error))

    def _finish(self, spool: WriterSpool) -> SpoolReport:
        """Send a spool wholly, and delete it."""
        total = spool.unacknowledged
        self.publisher.add(spool)
        self._wait(spool, total)
        left = spool.unacknowledged
        problem = ""
        if not spool.finished:
            problem = f"points in {spool.directory} could not be made events; make room on its disk and sync again"
            problem = self._why_not() if left else problem
        if self.publisher.remove(spool):
            spool.close(remove=not problem)
        return SpoolReport(spool.directory, spool.manifest.run_id, total, total - left, problem)

    def _follow(self, spool: FollowedSpool, busy: SpoolBusy) -> SpoolReport:
        """Send what has a number and can never change."""
        if total := spool.unacknowledged:
            self.publisher.add(spool)
            self._wait(spool, total)
            self.publisher.remove(spool)
        else:
            spool.retire()
        left = spool.unacknowledged
        said = _what_waits(spool, busy)
        problem = self._why_not() if left else said if busy.standing == "unknown" else ""
        note = "" if problem else said
        run_id, sent = spool.manifest.run_id, total - left
        return SpoolReport(spool.directory, run_id, total, sent, problem, followed=True, note=note)

    def _wait(self, spool: Shippable, total: int) -> None:
        left, deadline = total, time.monotonic() + self.timeout
        while left and time.monotonic() < deadline and self.publisher.alive and not self.publisher.refused:
            self.publisher.delivered(spool, 0.1)
            if (now := spool.unacknowledged) < left:
                left, deadline = now, time.monotonic() + self.timeout
            self.progress(spool.directory, total - left, total)
        self.refused = self.publisher.refused or self.refused

    def _why_not(self) -> str:
        return self.publisher.trouble or f"the broker did not acknowledge for {self.timeout:g} s"


def _what_waits(spool: FollowedSpool, busy: SpoolBusy) -> str:
    """Return what of a followed spool could not be sent yet, and what to do about it."""
    parts = []
    if spool.waiting:
        parts.append(f"{spool.waiting} events that its owner does not call durable")
    if spool.points:
        parts.append(f"{spool.points} metric points that are no events yet")
    if not spool.remembers:
        parts.append("nothing, but it is sent again the next time, as the directory cannot be written")
    waits = f"{busy}. What waits: {', '.join(parts) or 'nothing, but its end'}"
    if busy.standing != "unknown":
        return f"{waits}. Sync again later"
    if not os.access(spool.directory, os.W_OK):
        return f"{waits}. When its writer has ended, sync it where it can be written, or a copy of it"
    return (
        f"{waits}. When its writer has ended, copy the spool once more and sync it; if it was killed, run `runtide sync` on "
        f"{spool.manifest.host} where the spool itself lies, or `runtide sync --ended {spool.directory}` on a copy made after"
    )
