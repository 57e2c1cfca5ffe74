"""Which of several files is the DuckDB file: a pointer beside them says so, replaced as a whole.

Without a pointer it is the file that was named (``--file``). A rebuild makes ``FILE.g1``, ``FILE.g2`` ... and then turns
``FILE.live``, the pointer, to it: one rename, so that a crash leaves the old file or the new one. Each has a name of its
own for good, because DuckDB's write-ahead log and its lock go by the name.
"""

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from runtide_schemas.errors import FatalError, TransientError

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\.g([1-9][0-9]{0,8})\Z")


@dataclass(frozen=True, slots=True)
class Generations:
    """The files of one store. ``base`` is the one that was named."""

    base: Path

    @property
    def live(self) -> Path:
        """The file that is read and written.

        Raises:
            FatalError: the pointer is damaged.
        """
        return self._pointed()[0]

    @property
    def previous(self) -> Path | None:
        """The file that the last turn replaced, if there was one."""
        return self._pointed()[1]

    @property
    def unfinished(self) -> list[Path]:
        """New files of rebuilds that did not end, or that are at work."""
        return [path for path in self._numbered() if path not in self._pointed()]

    def next(self) -> Path:
        """Return the file that the next rebuild makes, or goes on with."""
        if unfinished := self.unfinished:
            return unfinished[-1]
        live, previous = self._pointed()
        greatest = max(_number(path) for path in (*self._numbered(), live, previous or live))
        return self.base.with_name(f"{self.base.name}.g{greatest + 1}")

    def named(self, name: str) -> Path:
        """Return the file of that name.

        Raises:
            FatalError: it is none of this store's.
        """
        found = {path.name: path for path in (self.base, *self._numbered()) if path.exists()}
        if name not in found:
            raise FatalError(f"{self.base.parent} has no file {name!r} of {self.base.name}; there are {sorted(found)}")
        return found[name]

    def turn_to(self, path: Path) -> None:
        """Make another file the live one, for good once this returns; the one before is kept, older ones are removed.

        Raises:
            TransientError: the disk is full, say; nothing has changed.
        """
        live = self.live
        pointer, unfinished = self._pointer, self._pointer.with_name(f".{self._pointer.name}.unfinished")
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(json.dumps({"live": path.name, "previous": live.name}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(pointer)
        except OSError as error:
            raise TransientError(f"cannot write {pointer}: {error}") from error
        _sync(pointer.parent)
        for old in (self.base, *self._numbered()):
            if old not in {path, live}:
                remove(old)

    @property
    def _pointer(self) -> Path:
        return self.base.with_name(f"{self.base.name}.live")

    def _pointed(self) -> tuple[Path, Path | None]:
        try:
            found = json.loads(self._pointer.read_text(encoding="utf-8"))
            return self.base.with_name(found["live"]), self.base.with_name(found["previous"])
        except FileNotFoundError:
            return self.base, None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FatalError(
                f"{self._pointer} cannot be read ({error}): it says which file is the live one. Write it anew, as "
                '{"live": "NAME", "previous": "NAME"}; or delete it and let ' + f"{self.base} be folded from the log"
            ) from error

    def _numbered(self) -> list[Path]:
        return sorted((path for path in self.base.parent.glob(f"{self.base.name}.g*") if _number(path)), key=_number)


def _number(path: Path) -> int:
    found = _NUMBER.search(path.name)
    return int(found[1]) if found else 0


def remove(path: Path) -> None:
    """Delete a database file and what belongs to it."""
    for found in (path, path.with_name(f"{path.name}.wal"), made_by_file(path)):
        found.unlink(missing_ok=True)


def made_by_file(path: Path) -> Path:
    """Return the note of who is at work on a new file; there only until it is the live one."""
    return path.with_name(f"{path.name}.made-by")


def _sync(folder: Path) -> None:
    """Have the turn survive a power cut. Where that fails it has been made all the same, and one would undo it, no more."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        log.warning("cannot sync %s: %s", folder, error)
    finally:
        os.close(descriptor)
