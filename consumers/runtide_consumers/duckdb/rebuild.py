"""Rebuilding the DuckDB store: a new file beside the live one, and a pointer that is turned to it.

One process owns the live file. While it runs it is asked: for a snapshot to compare with, to halt its fold, and to go on
with the new file. While none runs (it was stopped, or refuses a file of another format) the file itself is read, and the
next one that starts follows the pointer.
"""

import asyncio
import contextlib
import fcntl
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from runtide_consumers.duckdb.database_file import Connection, connect, read_format
from runtide_consumers.duckdb.errors import is_locked
from runtide_consumers.duckdb.generations import Generations, made_by_file, remove
from runtide_consumers.duckdb.history import HISTORY
from runtide_consumers.duckdb.layout import Layout
from runtide_consumers.duckdb.log_state import read_made_by_code, read_positions
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.rebuild.code import hash_of_code, number_of_code
from runtide_consumers.rebuild.comparison import EntityDigests
from runtide_consumers.rebuild.store import Busy, Frozen, Halted, Positions
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

log = logging.getLogger(__name__)

_HALT_S = 30.0
_SNAPSHOT_TRIES = 60
_SNAPSHOT_PAUSE_S = 0.3


class DuckdbStore:
    """Implements ``RebuildableStore``."""

    def __init__(self, settings: DuckdbSettings, owner: OwnerClient | None, layout: Layout = HISTORY) -> None:
        """``settings`` are the owner's; ``owner`` is None when none can be running."""
        self.name = layout.format.store
        self.layout_version = layout.format.version
        self.shares = layout.shares
        self.code = layout.code
        self._layout = layout
        self._settings = settings
        self._owner = owner
        self._generations = Generations(settings.file)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold a lock file beside the store."""
        path = self._settings.file.with_name(f".{self._settings.file.name}.rebuild-lock")
        try:
            file = path.open("a")
        except OSError as error:
            raise FatalError(
                f"cannot write beside {self._settings.file}, where a new file has to be: {error}"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FatalError(
                    f"another rebuild of {self._settings.file} is at work; wait for it, or end it"
                ) from error
            yield

    async def live_version(self) -> int | None:
        """Return the format of the live file; None when there is none."""
        if self._owner is not None and (health := await self._owner.health()):
            return health.format
        if not self._generations.live.exists():
            return None
        try:
            with contextlib.closing(connect(self._settings, self._generations.live, read_only=True)) as connection:
                return read_format(connection)
        except duckdb.Error as error:
            if is_locked(error):
                raise _in_use(self._generations.live, error) from error
            return None  # damaged, or no file of ours: who opens it to write finds out, and sees to it

    async def live_positions(self) -> Positions:
        """Return where the live file stands."""
        if self._owner is not None and (health := await self._owner.health()):
            return health.positions
        with self._reading(self._generations.live) as connection:
            return read_positions(connection)

    async def new_positions(self) -> Positions:
        """Return where the new file stands."""
        if not self._generations.next().exists():
            return {}
        with self._reading(self._generations.next()) as connection:
            return read_positions(connection)

    async def prepare(self, made_by: str) -> bool:
        """Keep the new file that ``made_by`` has begun, or make room for another.

        Raises:
            FatalError: the owner runs another version of this program, or folds by other code.
        """
        await self._check_owner("rebuild")
        if await self._usable(made_by):
            return True
        for path in self._generations.unfinished:
            remove(path)
        made_by_file(self._generations.next()).write_text(made_by, encoding="ascii")
        return False

    def new(self) -> DuckdbProjection:
        """Return the projection into the new file."""
        return DuckdbProjection(self._settings.model_copy(update={"file": self._generations.next()}), self._layout)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Frozen]:
        """Hold a copy that the owner has made; while there is no owner, keep the file from it."""
        path = self._generations.live
        if self._owner is not None and await self._owner.health():
            path = await _snapshot(self._owner)
        with self._reading(path) as connection:
            yield _FrozenFile(read_positions(connection), self._layout.digests(connection))

    @asynccontextmanager
    async def rebuilt(self) -> AsyncIterator[EntityDigests]:
        """Read the new file."""
        with self._reading(self._generations.next()) as connection:
            yield self._layout.digests(connection)

    @asynccontextmanager
    async def halted(self) -> AsyncIterator[Halted]:
        """Have the owner wait, at most so long; while there is none, keep the file from it."""
        if self._owner is not None and await self._owner.health():
            await self._check_owner("rebuild")  # it may have been started anew since
            positions = await self._owner.halt(_HALT_S)
            yield _HaltedFile(self, positions, self._owner)
            return
        with self._reading(self._generations.live) as connection:
            yield _HaltedFile(self, read_positions(connection), None)

    async def exchange(self, file: Path, owner: OwnerClient | None, *, behind: bool = False) -> None:
        """Make another file the live one: by its owner, or by turning the pointer while nobody can have it open."""
        if owner is not None:
            await owner.exchange(file.name, behind=behind)
        else:
            self._generations.turn_to(file)
        made_by_file(file).unlink(missing_ok=True)

    async def roll_back(self) -> None:
        """Go back to the file before, if this code made it: it goes on in it."""
        previous = self._generations.previous
        if previous is None or not previous.exists():
            raise InvalidRequest(
                f"there is no file to go back to beside {self._settings.file}: no rebuild was swapped in"
            )
        with self._reading(previous) as connection:
            found, code = read_format(connection), read_made_by_code(connection)
        if found != self.layout_version:
            raise InvalidRequest(
                f"{previous} has format version {found}, this program writes {self.layout_version}: install the version "
                "that made it, and roll back with that"
            )
        if self.code and code is not None and code != number_of_code(self.code):
            raise InvalidRequest(
                f"{previous} was made by other code of {', '.join(self.code)} than lies here, which would go on in it by a fold "
                "of its own: install the code that made it, restart the projection and roll back then; or leave it and "
                f"`runtide rebuild {self.name}`"
            )
        await self._check_owner("roll back")
        if self._owner is not None and await self._owner.health():
            await self.exchange(previous, self._owner, behind=True)
        else:
            with self._reading(self._generations.live):
                await self.exchange(previous, None)

    async def _check_owner(self, then: str) -> None:
        health = await self._owner.health() if self._owner is not None else None
        if health is None:
            return
        if health.format != self.layout_version:
            raise FatalError(
                f"the process that owns {self._settings.file} writes format {health.format}, this program {self.layout_version}: "
                "stop it, and start this version's with --upgrade, which rebuilds first"
            )
        if self.code and health.code != hash_of_code(self.code):
            raise FatalError(
                f"the process that owns {self._settings.file} folds by other code than lies here ({', '.join(self.code)}, or "
                "Runtide's own), and would go on with it in the other file: restart the projection with the code that lies here "
                f"first, then {then}"
            )

    async def _usable(self, made_by: str) -> bool:
        path = self._generations.next()
        try:
            known = made_by_file(path).read_text(encoding="ascii")
        except FileNotFoundError:
            return False
        if known != made_by or self._generations.unfinished != [path]:
            return False
        try:
            with contextlib.closing(connect(self._settings, path, read_only=True)) as connection:
                new = read_positions(connection)
        except duckdb.Error as error:
            if is_locked(error):
                raise _in_use(path, error) from error
            return False  # cut off before it had its tables
        live = await self.live_positions()
        return all(offset <= live.get(partition, 0) for partition, offset in new.items())

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[Connection]:
        try:
            connection = connect(self._settings, path, read_only=True)
        except duckdb.Error as error:
            raise _in_use(path, error) if is_locked(error) else FatalError(f"cannot read {path}: {error}") from error
        try:
            yield connection
        except duckdb.Error as error:
            raise FatalError(f"cannot read {path}: {error}") from error
        finally:
            connection.close()


async def _snapshot(owner: OwnerClient) -> Path:
    """Ask again while a transaction is in the way of the copy, as happens when many read."""
    for _ in range(_SNAPSHOT_TRIES):
        try:
            return (await owner.snapshot())[0]
        except TransientError as error:
            log.info("%s; asking again", error)
            await asyncio.sleep(_SNAPSHOT_PAUSE_S)
    return (await owner.snapshot())[0]


def _in_use(path: Path, error: duckdb.Error) -> FatalError:
    return FatalError(
        f"{path} is in use by another process: {error}. If that is its owner, give the address that it answers at (--url)"
    )


@dataclass(frozen=True, slots=True)
class _FrozenFile:
    positions: Positions
    digests: EntityDigests


@dataclass(frozen=True, slots=True)
class _HaltedFile:
    store: DuckdbStore
    positions: Positions
    owner: OwnerClient | None

    async def swap(self) -> None:
        file = Generations(self.store._settings.file).next()
        try:
            await self.store.exchange(file, self.owner)
        except InvalidRequest as error:
            raise Busy(f"the live file went on before the exchange: {error}") from error
