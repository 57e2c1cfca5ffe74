"""The names of metric keys, and the numbers that tail records refer to them by.

An append-only file of lines ``<id> TAB <name>``; a line is written before the first point that uses its id, unless the
disk takes none: then it waits in memory, where sealing finds the name all the same.
"""

import errno
import itertools
import logging
import os
import threading
from collections import deque
from pathlib import Path

from runtide.spool.disk import Disk
from runtide.spool.whole_write import write_whole
from runtide_schemas.limits import check_key

log = logging.getLogger(__name__)

FILE = "keys"


class KeyTable:
    """Metric keys of one writer. ``ids`` may be looked up by anyone; only ``add`` changes it.

    A key may get two ids when a signal handler logs it for the first time while the same is under way: harmless.
    """

    __slots__ = ("_descriptor", "_lock", "_next_id", "_path", "_troubled", "_unwritten", "_writing", "ids", "names")

    def __init__(self, directory: Path) -> None:
        self.names = read_keys(directory)
        self.ids: dict[str, int] = {name: number for number, name in self.names.items()}
        self._next_id = itertools.count(max(self.names, default=0) + 1)
        self._lock = threading.RLock()
        self._unwritten: deque[bytes] = deque()
        self._writing = False
        self._troubled = False
        self._path = directory / FILE
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, key: str) -> int:
        """Return the id of a key, a new one when it is not known yet.

        Raises:
            InvalidRequest: it may not name a metric.
        """
        check_key(key, "Metric")
        if (known := self.ids.get(key)) is not None:
            return known
        number = next(self._next_id)
        self.names[number] = key
        self._unwritten.append(f"{number}\t{key}\n".encode())
        self.maintain()
        self.ids[key] = number
        return number

    def maintain(self) -> None:
        """Write the names that are not in the file yet; while the disk takes none, they wait in memory."""
        try:
            self._write_through()
            self._troubled = False
        except OSError as error:
            if not self._troubled:
                log.warning("cannot write metric names to %s: %s. Kept in memory and tried again", self._path, error)
            self._troubled = True

    def _write_through(self) -> None:
        """Write what waits. A signal handler that interrupts this leaves its name to the call that it interrupted."""
        if not self._unwritten:
            return
        with self._lock:
            if self._writing:
                return
            self._writing = True
            try:
                while self._unwritten:
                    write_whole(self._descriptor, self._unwritten[0])
                    self._unwritten.popleft()
            finally:
                self._writing = False

    def sync(self, disk: Disk) -> None:
        """Make sure that the names are on the disk itself.

        Raises:
            OSError: they are not.
        """
        self._write_through()
        if self._unwritten:
            raise OSError(errno.EBUSY, f"{self._path}: this call interrupts one that writes a name; flush after it")
        disk.sync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_keys(directory: Path) -> dict[int, str]:
    """Return the names by id; a line that was not finished is ignored, since no point can refer to it."""
    path = directory / FILE
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    pairs = (line.partition("\t") for line in lines)
    return {int(number): name for number, tab, name in pairs if tab and number.isdecimal()}
