"""The names of metric keys, and the numbers that tail records refer to them by.

An append-only file of lines ``<id> TAB <name>``; a line is written before the first point that uses its id.
"""

import itertools
import os
from pathlib import Path

from runtide_schemas.limits import check_key

FILE = "keys"


class KeyTable:
    """Metric keys of one writer. ``ids`` may be looked up by anyone; only ``add`` changes it.

    A key may get two ids when a signal handler logs it for the first time while the same is under way: harmless.
    """

    __slots__ = ("_descriptor", "_next_id", "ids", "names")

    def __init__(self, directory: Path) -> None:
        self.names = read_keys(directory)
        self.ids: dict[str, int] = {name: number for number, name in self.names.items()}
        self._next_id = itertools.count(max(self.names, default=0) + 1)
        self._descriptor = os.open(directory / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, key: str) -> int:
        """Return the id of a key, a new one when it is not known yet.

        Raises:
            InvalidRequest: it may not name a metric.
            OSError: it cannot be written.
        """
        check_key(key, "Metric")
        if (known := self.ids.get(key)) is not None:
            return known
        number = next(self._next_id)
        os.write(self._descriptor, f"{number}\t{key}\n".encode())
        self.names[number] = key
        self.ids[key] = number
        return number

    def sync(self) -> None:
        """Make sure that the names are on the disk itself."""
        os.fsync(self._descriptor)

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
