"""What is valid and what is not in a segment file whose damage keeps its partition from being served."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from runtide_deploy.broker.errors import DamagedBatch
from runtide_deploy.broker.log.batch import (
    HEADER_BYTES,
    LEADER_EPOCH,
    MAGIC,
    BatchHeader,
    check_plausible,
    read_header,
    walk_buffer,
)

_EPOCH_AND_MAGIC: Final = LEADER_EPOCH.to_bytes(4, "big") + MAGIC.to_bytes(1, "big")
_EPOCH_POSITION: Final = 12
NO_LIMIT: Final = 1 << 62


class Damage(NamedTuple):
    """A range of bytes without a valid batch, and the offsets that were in it (none when both are equal).

    The range is empty where offsets are missing between two valid batches.
    """

    path: Path
    start: int
    end: int
    reason: str
    first_lost: int
    following: int


class Examined(NamedTuple):
    """A segment file: the byte ranges of its valid batches, its damage, and the offset that follows its last batch.

    ``torn_bytes`` at the end of the last segment are no damage: they were never acknowledged, and a start cuts them.
    """

    path: Path
    base_offset: int
    valid: tuple[tuple[int, int], ...]
    damage: tuple[Damage, ...]
    next_offset: int
    torn_bytes: int = 0


def examine(path: Path, expected: int, limit: int | None, known: int = 0) -> Examined:
    """Read a whole segment file.

    Args:
        path: the file; its name says its base offset.
        expected: the offset that is due first.
        limit: base offset of the next segment, None for the last one, whose torn tail is no damage.
        known: offset up to which the log is known to have been stored: a tail that is due below it is not torn.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return Examined(path, int(path.stem), (), (), expected)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            walk = _Walk(path, content, expected, NO_LIMIT if limit is None else limit)
            torn = walk.run(known, is_last=limit is None)
    return Examined(path, int(path.stem), tuple(walk.valid), tuple(walk.damage), walk.expected, torn)


class _Walk:
    def __init__(self, path: Path, content: mmap.mmap, expected: int, limit: int) -> None:
        self._path, self._content, self._size, self._limit = path, content, len(content), limit
        self.expected = expected
        self.valid: list[tuple[int, int]] = []
        self.damage: list[Damage] = []

    def run(self, known: int, *, is_last: bool) -> int:
        """Walk to the end; return the bytes of a torn tail."""
        position = 0
        while position < self._size:
            header, reason = self._batch_at(position)
            if header is None:
                found = next(self._candidates(position), None)
                if found is None and is_last and self.expected >= known:
                    return self._size - position
                position = self._skip(position, found, reason)
                continue
            if header.base_offset > self.expected and not (self.damage and self.damage[-1].end == position):
                reason = f"offset is {header.base_offset}, expected {self.expected}"
                self.damage.append(Damage(self._path, position, position, reason, self.expected, header.base_offset))
            self._take(position, header)
            position += header.size
        return 0

    def _take(self, position: int, header: BatchHeader) -> None:
        end = position + header.size
        if self.valid and self.valid[-1][1] == position:
            self.valid[-1] = (self.valid[-1][0], end)
        else:
            self.valid.append((position, end))
        self.expected = header.last_offset + 1

    def _skip(self, start: int, found: int | None, reason: str) -> int:
        end = self._size if found is None else found
        following = self.expected
        if found is not None:
            following = read_header(self._content[found : found + HEADER_BYTES]).base_offset
        self.damage.append(Damage(self._path, start, end, reason, self.expected, following))
        return end

    def _batch_at(self, position: int) -> tuple[BatchHeader | None, str]:
        """Return the valid batch at a position, else None and why there is none."""
        header, reason = self._verified_at(position)
        if header is None or header.base_offset == self.expected:
            return header, reason
        # No checksum covers a batch's offset: one that leaves a gap is wrong if the next one lies in that gap.
        following, _ = self._verified_at(position + header.size)
        if following is not None and following.base_offset <= header.last_offset:
            return None, f"offset is {header.base_offset}, but {following.base_offset} follows"
        return header, ""

    def _verified_at(self, position: int) -> tuple[BatchHeader | None, str]:
        if position + HEADER_BYTES > self._size:
            return None, f"only {self._size - position} bytes are left, less than a header"
        header = read_header(self._content[position : position + HEADER_BYTES])
        try:
            check_plausible(header, position)
            if not self.expected <= header.base_offset <= header.last_offset < self._limit:
                raise DamagedBatch(position, f"offset is {header.base_offset}, expected {self.expected}")
            if position + header.size > self._size:
                raise DamagedBatch(position, f"length field says {header.size} bytes, {self._size - position} are left")
            for _ in walk_buffer(memoryview(self._content[position : position + header.size]), position):
                pass
        except DamagedBatch as damage:
            return None, damage.reason
        return header, ""

    def _candidates(self, position: int) -> Iterator[int]:
        """Yield where valid batches begin behind ``position``: first where the damaged one's length leads, then anywhere."""
        if position + HEADER_BYTES <= self._size:
            behind = position + read_header(self._content[position : position + HEADER_BYTES]).size
            if position < behind < self._size and self._batch_at(behind)[0] is not None:
                yield behind
        at = self._content.find(_EPOCH_AND_MAGIC, position + _EPOCH_POSITION + 1)
        while at >= 0:
            if self._batch_at(at - _EPOCH_POSITION)[0] is not None:
                yield at - _EPOCH_POSITION
            at = self._content.find(_EPOCH_AND_MAGIC, at + 1)
