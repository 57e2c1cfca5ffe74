"""The durable store of committed group offsets: an append-only file of sealed JSON lines, rewritten when mostly stale."""

import asyncio
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.durable_file import open_line, replace_file, seal_line
from runtide_deploy.broker.errors import CannotStart, Refused
from runtide_deploy.broker.log.group_commit import GroupCommit
from runtide_deploy.broker.log.segment import SegmentFile

_REWRITE_BYTES: Final = 4 << 20
_STALE_FACTOR: Final = 4
logger = logging.getLogger(__name__)


class Committed(NamedTuple):
    """An offset a group committed for a partition; ``offset`` None in a change deletes it."""

    topic: str
    partition: int
    offset: int | None
    leader_epoch: int = -1
    metadata: str = ""


class OffsetStore:
    """Committed offsets of all groups. Belongs to the event loop; durable once the returned future completes."""

    def __init__(self, path: Path, commit: GroupCommit) -> None:
        self._path = path
        self._commit = commit
        self._groups: dict[str, dict[tuple[str, int], Committed]] = {}
        self._file: SegmentFile | None = None
        self._size = 0
        self._live_bytes = 0

    def open(self) -> None:
        """Read the file, cut a torn tail, and rewrite it compactly.

        Raises:
            CannotStart: the file is damaged before its tail.
        """
        if self._path.exists():
            self._read(self._path.read_bytes().splitlines(keepends=True))
        self._rewrite()

    def _read(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines, start=1):
            text = open_line(line)
            if text is not None:
                self._apply(*_decode(text))
                continue
            if any(open_line(later) is not None for later in lines[number:]):
                raise CannotStart(
                    f"{self._path} is damaged at line {number}; restore it from a copy, or delete it to forget the "
                    "offsets that consumer groups committed"
                )
            logger.warning("%s: cut the torn tail from line %d on; it was never acknowledged", self._path, number)
            return

    def _apply(self, group_id: str, changes: Iterable[Committed]) -> None:
        offsets = self._groups.setdefault(group_id, {})
        for change in changes:
            if change.offset is None:
                offsets.pop((change.topic, change.partition), None)
            else:
                offsets[change.topic, change.partition] = change
        if not offsets:
            del self._groups[group_id]

    def _rewrite(self) -> None:
        content = b"".join(_encode(group_id, offsets.values()) for group_id, offsets in self._groups.items())
        replace_file(self._path, content)
        self._file = SegmentFile(self._path, os.O_RDWR)
        self._size = self._live_bytes = len(content)

    def store(self, group_id: str, changes: Iterable[Committed]) -> asyncio.Future[None]:
        """Write changes; the future completes when they are on disk.

        Raises:
            Refused: COORDINATOR_NOT_AVAILABLE, the disk refuses; clients retry it.
        """
        changes = tuple(changes)
        line = _encode(group_id, changes)
        try:
            self._append(line)
        except OSError as error:
            logger.error("cannot write to %s: %s", self._path, error)
            raise Refused(
                ErrorCode.coordinator_not_available, f"cannot write to {self._path}: {error}; free space and retry"
            ) from error
        self._apply(group_id, changes)
        return self._commit.mark(self)

    def _append(self, line: bytes) -> None:
        if self._file is None:
            raise OSError("the store is not open")
        if self._size > _REWRITE_BYTES and self._size > _STALE_FACTOR * self._live_bytes:
            self._rewrite()
        view, position = memoryview(line), self._size
        try:
            while view:
                written = os.pwrite(self._file.number, view, position)
                view, position = view[written:], position + written
        except OSError:
            os.ftruncate(self._file.number, self._size)
            raise
        self._size = position

    def find(self, group_id: str, topic: str, partition: int) -> Committed | None:
        """Return what a group committed for a partition."""
        return self._groups.get(group_id, {}).get((topic, partition))

    def of_group(self, group_id: str) -> Iterator[Committed]:
        """Yield everything a group committed."""
        yield from self._groups.get(group_id, {}).values()

    def has_group(self, group_id: str) -> bool:
        """Return whether a group committed anything."""
        return group_id in self._groups

    def group_ids(self) -> tuple[str, ...]:
        """Return the ids of all groups with committed offsets."""
        return tuple(self._groups)

    def delete_group(self, group_id: str) -> None:
        """Forget what a group committed."""
        if group_id in self._groups:
            self.store(group_id, [change._replace(offset=None) for change in self.of_group(group_id)])

    def delete_topic(self, topic: str) -> None:
        """Forget what all groups committed for a topic that is gone."""
        for group_id in self.group_ids():
            gone = [change._replace(offset=None) for change in self.of_group(group_id) if change.topic == topic]
            if gone:
                self.store(group_id, gone)

    def unflushed(self) -> tuple[SegmentFile, int]:
        """Return the file that group commit must sync."""
        if self._file is None:
            raise OSError("the store is not open")
        return self._file, self._size

    def flushed(self, mark: int) -> None:
        """Nothing to do: who waits for the round is told by its future."""


def _encode(group_id: str, changes: Iterable[Committed]) -> bytes:
    return seal_line(json.dumps([group_id, *changes], separators=(",", ":")).encode())


def _decode(text: bytes) -> tuple[str, list[Committed]]:
    group_id, *changes = json.loads(text)
    return group_id, [Committed(*change) for change in changes]
