"""Consistent read-only copies of the file, for readers that must not touch it: the SQL sandbox."""

import asyncio
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.log_state import read_positions
from runtide_consumers.duckdb.owner import Owner
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import TransientError

_COPY_CHUNK = 1 << 30
_REST = 20
"""How many times as long as a copy took it is good for: copies take a twentieth of the writer's time at most."""
_WAIT_FOR_READS_S = 5.0
_PAUSE_S = 0.02
_NO_COPY_IN_KERNEL = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the file, and the next offset per partition that it is complete to."""

    path: Path
    positions: Mapping[TopicPartition, int]


class ReadsInTheWay(TransientError):
    """The file cannot be checkpointed: reads go on that began before its last change."""


class Snapshots:
    """Makes copies, one at a time; hands the last one out again while it still says the same, or is young.

    What is young depends on what a copy costs: a small file, or one on a file system that shares blocks, is copied at once
    when it has changed; a large one every ``snapshot_seconds`` at most.
    A copy is removed once it is not the last one, has not been handed out for a while and no process has it open.
    """

    def __init__(self, owner: Owner, settings: DuckdbSettings) -> None:
        """Copies lie in ``snapshots/`` beside the file; those that an earlier process left are removed in time."""
        self._owner = owner
        self._settings = settings
        self._folder = settings.file.parent / "snapshots"
        self._turn = asyncio.Lock()
        self._last: Snapshot | None = None
        self._source = Path()
        self._taken_at = 0.0
        self._took = 0.0
        self._handed_out: dict[Path, float] = {}

    async def take(self) -> Snapshot:
        """Return a copy that is complete to where the file stood when this was called, or little before.

        Raises:
            TransientError: reads are in the way that do not end, or the disk is full.
        """
        async with self._turn:
            snapshot = self._last
            if snapshot is None or not await self._still_good(snapshot):
                snapshot, source = await self._copied()
                self._last, self._source, self._taken_at = snapshot, source, time.monotonic()
            self._handed_out[snapshot.path] = time.monotonic()
            await asyncio.to_thread(self._remove_old, snapshot.path)
            return snapshot

    async def _still_good(self, snapshot: Snapshot) -> bool:
        if not snapshot.path.exists() or self._source != self._owner.file:
            return False
        if time.monotonic() - self._taken_at < min(self._settings.snapshot_seconds, _REST * self._took):
            return True
        return await self._owner.run(read_positions) == snapshot.positions

    async def _copied(self) -> tuple[Snapshot, Path]:
        """Return a new copy and the file it is of; reads that are in the way are waited for, while batches go on."""
        deadline = time.monotonic() + _WAIT_FOR_READS_S
        while True:
            source = self._owner.file
            try:
                return await self._owner.run(partial(self._copy, source=source)), source
            except ReadsInTheWay:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)

    def _copy(self, connection: Connection, source: Path) -> Snapshot:
        """Copy the file on the thread that owns it, so that nothing is written meanwhile."""
        started = time.monotonic()
        try:
            connection.execute("CHECKPOINT")
            positions = read_positions(connection)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{self._next_number()}.duckdb"
            unfinished = path.with_suffix(".partial")
            _copy_file(source, unfinished)
            unfinished.rename(path)
        except duckdb.TransactionException as error:
            raise ReadsInTheWay(f"cannot copy {source} for a snapshot while reads of it go on: {error}") from error
        except OSError as error:
            raise TransientError(f"cannot copy {source} for a snapshot: {error}") from error
        self._took = time.monotonic() - started
        return Snapshot(path, positions)

    def _next_number(self) -> int:
        return max((int(path.stem) for path in self._copies()), default=0) + 1

    def _copies(self) -> list[Path]:
        return [path for path in self._folder.glob("*.duckdb") if path.stem.isdecimal()]

    def _remove_old(self, keep: Path) -> None:
        oldest = time.monotonic() - self._settings.snapshot_grace_seconds
        for path in self._copies():
            if path != keep and self._handed_out.get(path, -1.0) <= oldest and not _in_use(path):
                path.unlink(missing_ok=True)
                self._handed_out.pop(path, None)
        for unfinished in self._folder.glob("*.partial"):
            unfinished.unlink(missing_ok=True)


def _in_use(path: Path) -> bool:
    """Return whether a process has the copy open: DuckDB holds a read lock (fcntl) on a file that it reads."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _copy_file(source: Path, target: Path) -> None:
    """Copy inside the kernel, as a reflink where the file system can."""
    with source.open("rb") as reader, target.open("wb") as writer:
        os.fchmod(writer.fileno(), 0o600)
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_CHUNK):
                pass
        except OSError as error:
            if error.errno not in _NO_COPY_IN_KERNEL:
                raise
            shutil.copyfileobj(reader, writer, 1 << 20)
