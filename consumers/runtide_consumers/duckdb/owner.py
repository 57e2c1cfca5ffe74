"""The one thread that owns the connection; everyone else sends it work."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from runtide_consumers.duckdb.database_file import Connection
from runtide_schemas.errors import TransientError

T = TypeVar("T")


class Owner:
    """Runs functions of the connection one after the other on its own thread.

    A function that has begun runs to its end even when whoever waits for it is cancelled: a transaction is never
    left half done.
    """

    def __init__(self) -> None:
        """Nothing is opened yet; see ``open``."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duckdb-owner")
        self._connection: Connection = None

    async def open(self, connect: Callable[[], Connection]) -> None:
        """Open the connection on the owning thread."""
        self._connection = await asyncio.get_running_loop().run_in_executor(self._thread, connect)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, given the connection, on the owning thread.

        Raises:
            TransientError: the file is not open.
        """
        connection = self._open_connection()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work, connection))

    def cursor(self) -> Any:
        """Return a new connection to the same database, for reads on another thread. Close it after use.

        Raises:
            TransientError: the file is not open.
        """
        return self._open_connection().cursor()

    async def close(self) -> None:
        """Finish what is queued, then close the connection and end the thread."""
        if self._connection is not None:
            await self.run(lambda connection: connection.close())
        self._connection = None
        self._thread.shutdown(wait=True)

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise TransientError("the DuckDB file is not open yet, or not any more; try again")
        return self._connection
