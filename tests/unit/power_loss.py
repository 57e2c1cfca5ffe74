"""A directory whose every change is recorded, and what a disk may hold of it after the power was cut.

Only what was synced is sure: each sector, file size and directory entry may be there as of the last sync or as of any
later moment, each for itself. File systems keep more order than that; a spool must not need it.

All contents are observed through the page cache before and after each system call, so stores through mappings and
calls that nobody thought of are seen too. What counts as synced are calls of ``os.fsync`` and ``os.fdatasync`` alone.
"""

import errno
import os
import random
import stat
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SECTOR_BYTES = 512
_CALLS = ("write", "pwrite", "rename", "unlink", "mkdir", "rmdir", "ftruncate", "truncate", "posix_fallocate")
_APPENDED = (".avro", "keys")
Choice = Callable[[int, int, bool], int]
"""(first possible version, last one, whether the last is an absence) to the version that survived."""


@dataclass
class Versions:
    """What one sector, size or entry was, since when."""

    times: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, time: int, value: Any) -> None:
        if not self.values or self.values[-1] != value:
            self.times.append(time)
            self.values.append(value)

    def survivor(self, synced: int, crash: int, absent: Any, choose: Choice) -> Any:
        base, last = bisect_right(self.times, synced) - 1, bisect_right(self.times, crash) - 1
        version = choose(base, last, last >= 0 and self.values[last] == absent) if last > base else last
        return self.values[version] if version >= 0 else absent


@dataclass
class Node:
    """A file or a directory: sectors by number, or entries by name."""

    directory: bool
    parts: defaultdict[Any, Versions] = field(default_factory=lambda: defaultdict(Versions))
    size: Versions = field(default_factory=Versions)
    syncs: list[int] = field(default_factory=list)
    failed: bool = False

    def synced(self, crash: int) -> int:
        """Return when the last sync before a crash began; -1: never."""
        place = bisect_right(self.syncs, crash) - 1
        return self.syncs[place] if place >= 0 else -1


class RecordedDirectory:
    """Records what happens below a directory; what is there at first is on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0
        self._nodes: dict[int, Node] = {}
        self._by_inode: dict[int, int] = {}
        self._top = self._node(root.stat())
        self._observing = False
        self._syncs = 0
        self.fail_at = 0
        """Number of the sync that fails, from 1. What it was to write never reaches the disk, whatever later ones say."""
        self.observe()
        for node in self._nodes.values():
            node.syncs.append(self.now)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Record the system calls of this process from now on; syncs do not reach the real disk, to be quick."""
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._observed(getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._sync)

    def observe(self) -> int:
        """Take down what is there now; return the time."""
        if not self._observing:
            self._observing = True
            self.now += 1
            seen = {self.root.stat().st_ino}
            self._observe_directory(self.root, self._top, seen)
            self._by_inode = {inode: number for inode, number in self._by_inode.items() if inode in seen}
            self._observing = False
        return self.now

    def restore(self, crash: int, choose: Choice, target: Path) -> None:
        """Make a directory as it may be found after a crash at some time."""
        self._restore_directory(self._top, crash, choose, target, set())

    def _observed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.observe()
            result = call(*arguments, **options)
            self.observe()
            return result

        return wrapped

    def _sync(self, descriptor: int) -> None:
        time = self.observe()
        self._syncs += 1
        number = self._by_inode.get(os.fstat(descriptor).st_ino)
        if self._syncs == self.fail_at:
            if number is not None:
                self._nodes[number].failed = True
            raise OSError(errno.EIO, "Input/output error")
        if number is not None and not self._nodes[number].failed:
            self._nodes[number].syncs.append(time)

    def _node(self, found: os.stat_result) -> int:
        if found.st_ino not in self._by_inode:
            number = self._by_inode[found.st_ino] = len(self._nodes)
            self._nodes[number] = Node(stat.S_ISDIR(found.st_mode))
        return self._by_inode[found.st_ino]

    def _observe_directory(self, path: Path, number: int, seen: set[int]) -> None:
        node = self._nodes[number]
        present = set()
        for entry in os.scandir(path):
            found = entry.stat(follow_symlinks=False)
            seen.add(found.st_ino)
            child = self._node(found)
            present.add(entry.name)
            node.parts[entry.name].add(self.now, child)
            if self._nodes[child].directory:
                self._observe_directory(path / entry.name, child, seen)
            else:
                self._observe_file(path / entry.name, self._nodes[child], found.st_size)
        for name in node.parts.keys() - present:
            node.parts[name].add(self.now, None)

    def _observe_file(self, path: Path, node: Node, size: int) -> None:
        if path.name.endswith(_APPENDED) and node.size.values and node.size.values[-1] == size:
            return
        content = path.read_bytes()
        for start in range(0, len(content), SECTOR_BYTES):
            node.parts[start // SECTOR_BYTES].add(self.now, content[start : start + SECTOR_BYTES])
        node.size.add(self.now, len(content))

    def _restore_directory(self, number: int, crash: int, choose: Choice, target: Path, done: set[int]) -> None:
        node = self._nodes[number]
        target.mkdir(mode=0o700)
        done.add(number)
        for name, versions in node.parts.items():
            child = versions.survivor(node.synced(crash), crash, None, choose)
            if child is None or child in done:
                continue  # a directory has one place
            if self._nodes[child].directory:
                self._restore_directory(child, crash, choose, target / name, done)
            else:
                (target / name).write_bytes(self._content(self._nodes[child], crash, choose))

    def _content(self, node: Node, crash: int, choose: Choice) -> bytes:
        synced = node.synced(crash)
        size = node.size.survivor(synced, crash, 0, choose)
        content = bytearray(size)
        for sector, versions in node.parts.items():
            start = sector * SECTOR_BYTES
            data = versions.survivor(synced, crash, b"", choose)[: max(0, size - start)]
            content[start : start + len(data)] = data
        return bytes(content)


def nothing_unsynced(base: int, last: int, absent: bool) -> int:
    """The worst write cache."""
    return base


def everything(base: int, last: int, absent: bool) -> int:
    """As after ``kill -9``."""
    return last


def unlinks_only(base: int, last: int, absent: bool) -> int:
    """Deletions reached the disk, no other write did."""
    return last if absent else base


def some(dice: random.Random, share: float) -> Choice:
    """Return a choice of any version: the last one as often as ``share`` says, else an older one."""

    def choose(base: int, last: int, absent: bool) -> int:
        return last if dice.random() < share else dice.randint(base, last)

    return choose
