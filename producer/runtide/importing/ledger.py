"""What has been imported of a run: where the next import of the same source goes on.

One JSON file per run, ``<spool>/imports/<run id>.json``. Without it a source is imported from its beginning, under the
writer ids that the first import had: the same events again, which readers drop. Only a source that has grown since needs
it, so import a growing source with the same spool directory each time.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from runtide_schemas.errors import FatalError, TransientError

DIRECTORY = "imports"
_UNFINISHED = "unfinished"
_FORMAT = 1


class DamagedLedger(FatalError):
    """What is imported of one run cannot be read. Nothing of that run is imported until it can be; others are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The state of a run at its source, as far as it is imported.

    Attributes:
        series: by stream and key, the number of points and a hash of all of them.
        params, tags: a hash of each value.
        inputs: a hash of each dataset.
        artifacts: SHA-256 by path.
        attributes: of the run; empty before its first import.
        writers: ids of the writers that imports had, in order.
    """

    series: dict[str, tuple[int, str]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    artifacts: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    writers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """What killed imports had left.

    Attributes:
        unsent: spools that are released and not sent.
        damaged: places of spools that stay where they are, because the ledger of their run cannot be read, and why not.
    """

    unsent: list[Path] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)


class Ledger:
    """The ledgers of all runs below one spool directory, and the place where their spools are made."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._directory = spool / DIRECTORY

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Keep other imports with the same spool directory out.

        Raises:
            TransientError: one is under way.
            FatalError: the directory cannot be made.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FatalError(
                f"cannot write in {self._spool}: {error}. Set RUNTIDE_SPOOL to a directory of yours"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TransientError(f"another import uses {self._spool}; import again when it has ended") from error
            yield self
        finally:
            os.close(descriptor)

    def path(self, run_id: str) -> Path:
        """Return where a run's ledger lies."""
        return self._directory / f"{run_id}.json"

    def read(self, run_id: str) -> Imported:
        """Return what is imported of a run; nothing when there is no ledger.

        Raises:
            DamagedLedger: it is damaged, or of another version.
        """
        path = self.path(run_id)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields.pop("format") != _FORMAT:
                raise DamagedLedger(f"{path} is of another version of Runtide; import with that one")
            series = {name: (int(count), str(digest)) for name, (count, digest) in fields.pop("series").items()}
            return Imported(
                series=series, inputs=tuple(fields.pop("inputs")), writers=tuple(fields.pop("writers")), **fields
            )
        except FileNotFoundError:
            return Imported()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedLedger(
                f"cannot read {path}: {error!r}. Restore it, or delete it if the source has not grown since its import"
            ) from error

    def write(self, run_id: str, state: Imported) -> None:
        """Note what is imported; it is on the disk itself when this returns."""
        path = self.path(run_id)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, **asdict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)

    def workplace(self, run_id: str) -> Path:
        """Return the directory where a run's spools are made."""
        return self._directory / _UNFINISHED / run_id

    def clear(self, run_id: str) -> None:
        """Delete a run's workplace; what an import that was killed had completed is moved to where spools lie first."""
        place = self.workplace(run_id)
        if not place.is_dir():
            return
        noted = set(self.read(run_id).writers)
        for directory in place.iterdir():
            if directory.name in noted:
                self._move(run_id, directory)
        shutil.rmtree(place, ignore_errors=True)

    def release(self, run_id: str) -> None:
        """Move the spools that the ledger has noted to where spools are found and sent."""
        self.clear(run_id)

    def sweep(self) -> Swept:
        """Release what killed imports had noted and not released; a run whose ledger is damaged stays as it is."""
        unfinished = self._directory / _UNFINISHED
        swept = Swept()
        for place in sorted(unfinished.iterdir()) if unfinished.is_dir() else ():
            if not place.is_dir():
                continue
            try:
                self.clear(place.name)
                swept.unsent.extend(self.unsent(place.name))
            except DamagedLedger as error:
                swept.damaged[place] = str(error)
        return swept

    def noted(self) -> list[Path]:
        """Return the spools that are noted as whole and not released: an import is under way, or was killed.

        Those of a run whose ledger is damaged are not known to be whole; ``sweep`` names them.
        """
        places = sorted((self._directory / _UNFINISHED).glob("*/*"))
        return [place for place in places if self._is_noted(place)]

    def unsent(self, run_id: str) -> list[Path]:
        """Return the spools of a run's imports that are not sent yet."""
        found = [self._spool / run_id / writer for writer in self.read(run_id).writers]
        return [directory for directory in found if directory.is_dir()]

    def _is_noted(self, place: Path) -> bool:
        try:
            return place.name in self.read(place.parent.name).writers
        except DamagedLedger:
            return False

    def _move(self, run_id: str, directory: Path) -> None:
        target = self._spool / run_id / directory.name
        if target.exists():  # the same writer: the same events
            return
        target.parent.mkdir(mode=0o700, exist_ok=True)
        directory.rename(target)
