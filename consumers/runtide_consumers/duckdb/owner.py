"""The one thread that owns the connection; everyone else sends it work."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from runtide_consumers.duckdb.database_file import Connection
from runtide_schemas.errors import TransientError

T = TypeVar("T")


class _Opened:
    """An open file, and how many reads of it are at work; once replaced, it is closed with the last of them.

    DuckDB's close would end the reads: it closes the cursors of a connection with it.
    """

    def __init__(self, connection: Connection, file: Path) -> None:
        self.connection = connection
        self.file = file
        self._lock = threading.Lock()
        self._reads = 0
        self._replaced = False

    def begin_read(self) -> Any:
        with self._lock:
            self._reads += 1
        return self.connection.cursor()

    def end_read(self, cursor: Any) -> None:
        cursor.close()
        with self._lock:
            self._reads -= 1
            last = self._replaced and self._reads == 0
        if last:
            self.connection.close()

    def replace(self) -> None:
        with self._lock:
            self._replaced = True
            unread = self._reads == 0
        if unread:
            self.connection.close()


class Loan:
    """A connection of its own to the file, for one read on another thread. Give it back, once."""

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened
        self.file = opened.file
        self.cursor = opened.begin_read()

    def give_back(self) -> None:
        """Close it; from any thread."""
        self._opened.end_read(self.cursor)


class Owner:
    """Runs functions of the connection one after the other on its own thread.

    A function that has begun runs to its end even when whoever waits for it is cancelled: a transaction is never
    left half done.
    """

    def __init__(self) -> None:
        """Nothing is opened yet; see ``open``."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duckdb-owner")
        self._opened: _Opened | None = None

    @property
    def file(self) -> Path:
        """The file that is open.

        Raises:
            TransientError: none is.
        """
        return self._open_file().file

    async def open(self, file: Path, connect: Callable[[], Connection]) -> None:
        """Open the connection on the owning thread; one that was open is replaced and closed.

        Reads that have begun on the replaced one go on to their end.
        """
        connection = await asyncio.get_running_loop().run_in_executor(self._thread, connect)
        replaced, self._opened = self._opened, _Opened(connection, file)
        if replaced is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, replaced.replace)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, given the connection, on the owning thread.

        Raises:
            TransientError: the file is not open.
        """
        connection = self._open_file().connection
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work, connection))

    def lend(self) -> Loan:
        """Return a new connection to the same database, for a read on another thread.

        Raises:
            TransientError: the file is not open.
        """
        return Loan(self._open_file())

    async def close(self) -> None:
        """Finish what is queued, then close the connection and end the thread."""
        if self._opened is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._opened.replace)
        self._opened = None
        self._thread.shutdown(wait=True)

    def _open_file(self) -> _Opened:
        if self._opened is None:
            raise TransientError("the DuckDB file is not open yet, or not any more; try again")
        return self._opened
