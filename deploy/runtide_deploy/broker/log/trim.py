"""Deleting a log's oldest segments so that a crash at any point leaves a log without a hole.

Segments are unlinked oldest first and each unlink is on disk before the next begins, so what a crash leaves is always
the younger part of the log. The log's start moves for readers only when that is done: it can never fall back. No step
needs space, so a full disk can be relieved. Before the first unlink, the producer states at the new start are kept in
``<base offset>.producers``, for a log whose producers' batches are all gone.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import NamedTuple

from runtide_deploy.broker.log.producers import ProducerStates
from runtide_deploy.broker.log.segment import Segment, SegmentFile
from runtide_deploy.broker.log.sidecar import read_producers, sidecar_path

logger = logging.getLogger(__name__)


class Trim(NamedTuple):
    """The deletion of ``segments``, the oldest of a log, before ``following``; it may run in any thread.

    ``folder`` is the open directory of the log: files are named relative to it, so that a topic of the same name that
    is created meanwhile is never touched.
    """

    folder: SegmentFile
    segments: tuple[Segment, ...]
    following: Segment

    def run(self) -> int:
        """Delete the files, oldest first, and return how many segments are gone for good; an error ends it early."""
        gone = 0
        try:
            self._keep_producers()
            for segment in self.segments:
                self._delete(segment)
                gone += 1
        except OSError as error:
            logger.error("cannot delete what retention gives up of %s: %s", self.following.path.parent, error)
        return gone

    def _keep_producers(self) -> None:
        last, kept = sidecar_path(self.segments[-1]).name, producers_path(self.following).name
        number = self.folder.number
        try:
            with contextlib.suppress(FileExistsError):
                os.link(last, kept, src_dir_fd=number, dst_dir_fd=number)
            descriptor = os.open(kept, os.O_RDONLY | os.O_CLOEXEC, dir_fd=number)
        except OSError as error:
            # Then an unknown producer is taken at its word after a restart, as Apache Kafka always does.
            logger.warning("cannot keep the producer states at offset %d: %s", self.following.base_offset, error)
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.fsync(number)

    def _delete(self, segment: Segment) -> None:
        self._unlink(segment.path)
        os.fsync(self.folder.number)
        self._unlink(sidecar_path(segment))
        self._unlink(producers_path(segment))

    def _unlink(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # the topic was deleted meanwhile
            os.unlink(path.name, dir_fd=self.folder.number)


def producers_path(segment: Segment) -> Path:
    """Return where the producer states at a segment's begin lie, if older segments were deleted."""
    return segment.path.with_suffix(".producers")


def restore_producers(first: Segment, producers: ProducerStates) -> None:
    """Set the producer states at the begin of a log whose older segments are gone."""
    if first.base_offset and not read_producers(producers_path(first), first.base_offset, producers):
        producers.forget_all()


def remove_leftovers(folder: Path, first: Segment) -> None:
    """Remove what a crash during a deletion left of segments that are gone."""
    if not first.base_offset:
        return
    for suffix in (".index", ".producers"):
        for path in folder.glob(f"*{suffix}"):
            if path.stem.isdecimal() and int(path.stem) < first.base_offset:
                path.unlink(missing_ok=True)
