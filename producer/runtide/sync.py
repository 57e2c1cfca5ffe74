"""Sending spools that their writers left behind: ``runtide sync DIR...``, any number of times, safely."""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtide.kafka import KafkaSettings
from runtide.kafka_transport import KafkaTransport
from runtide.publisher.publisher import Publisher
from runtide.publisher.transport import Transport
from runtide.spool.limits import SpoolLimits
from runtide.spool.manifest import FILE as MANIFEST_FILE
from runtide.spool.manifest import SENT_FILE
from runtide.spool.recovery import recover
from runtide.spool.writer_spool import SpoolBusy, WriterSpool
from runtide_schemas.errors import FatalError


@dataclass(frozen=True, slots=True)
class SpoolReport:
    """What became of one spool.

    Attributes:
        directory: the spool.
        run_id: the run; empty when its manifest cannot be read.
        events: events that were not acknowledged before.
        sent: those of them that the broker has now.
        problem: why not all; empty when all is sent and the spool is deleted.
        skipped: True when it was left alone, because its writer lives or somebody else sends it.
    """

    directory: Path
    run_id: str
    events: int
    sent: int
    problem: str = ""
    skipped: bool = False


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
        """True when nothing is left but what living writers send themselves."""
        return all(spool.skipped or not spool.problem for spool in self.spools)


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
) -> SyncReport:
    """Send what spools hold, and delete each that the broker has wholly.

    A writer that died is closed in its own name: points that it had not made events of become events, with the next
    numbers of its own sequence, so that sending again, or sending what the broker had already, changes nothing.

    Args:
        directories: spools, or directories that hold them.
        to: the way to the log, or the settings of its broker.
        progress: hears how far each spool is.
        timeout: seconds without any progress after which a spool is given up for now.
    """
    publisher = Publisher(_transport(to), linger=0.01, idle=math.inf)
    directories = list(directories)
    _delete_sent(directories)
    try:
        spools = tuple(_sync_one(path, publisher, progress, timeout) for path in find_spools(directories))
        return SyncReport(spools, publisher.refused)
    finally:
        publisher.stop()


def _transport(to: Transport | KafkaSettings) -> Transport:
    return KafkaTransport(to) if isinstance(to, KafkaSettings) else to


def _delete_sent(directories: Iterable[Path]) -> None:
    """Delete what is left of spools that were delivered, where the process or the machine died while it deleted them."""
    for directory in directories:
        for pattern in (SENT_FILE, f"*/{SENT_FILE}", f"*/*/{SENT_FILE}"):
            for path in directory.glob(pattern):
                shutil.rmtree(path.parent, ignore_errors=True)


def _sync_one(directory: Path, publisher: Publisher, progress: Progress, timeout: float) -> SpoolReport:
    try:
        spool = recover(directory, SpoolLimits())
    except SpoolBusy as error:
        return SpoolReport(directory, directory.parent.name, 0, 0, str(error), skipped=True)
    except (FatalError, OSError) as error:
        return SpoolReport(directory, "", 0, 0, str(error))
    total = spool.unacknowledged
    publisher.add(spool)
    _wait(spool, total, publisher, progress, timeout)
    left = spool.unacknowledged
    problem = "" if spool.finished else _problem(spool, publisher, timeout)
    if publisher.remove(spool):
        spool.close(remove=not problem)
    return SpoolReport(directory, spool.manifest.run_id, total, total - left, problem)


def _problem(spool: WriterSpool, publisher: Publisher, timeout: float) -> str:
    if spool.unacknowledged:
        return publisher.trouble or f"the broker did not acknowledge for {timeout:g} s"
    return f"points in {spool.directory} could not be made events; make room on its disk and sync again"


def _wait(spool: WriterSpool, total: int, publisher: Publisher, progress: Progress, timeout: float) -> None:
    left, deadline = total, time.monotonic() + timeout
    while left and time.monotonic() < deadline and publisher.alive and not publisher.refused:
        publisher.delivered(spool, 0.1)
        if (now := spool.unacknowledged) < left:
            left, deadline = now, time.monotonic() + timeout
        progress(spool.directory, total - left, total)
