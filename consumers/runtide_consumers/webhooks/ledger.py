"""How far each webhook has come, in a file of its own: what is told outside cannot be folded again from the log.

Without the file nothing that happened before is told: it begins where the log ends when it is made.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from runtide_schemas.errors import FatalError

_SCHEMA = """
create table if not exists begun (only_one integer primary key check (only_one = 0), next_offset integer not null);
create table if not exists positions (webhook_id text primary key, next_offset integer not null);
"""


class Ledger:
    """Positions in runtide.catalog. One process at a time; writes are durable when they return."""

    def __init__(self, file: Path) -> None:
        """Open or make the file.

        Raises:
            FatalError: it cannot be used.
        """
        self._turn = (
            threading.Lock()
        )  # a write whose task was cancelled goes on in its thread, also while the file is closed
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise FatalError(
                f"the webhooks' ledger {file} cannot be used: {error}. Restore it, or move it away: then nothing that has "
                "happened so far is told any more"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            self._database.close()

    def begin(self, end: int) -> int:
        """Return the offset that the file began at; ``end`` when it is new."""
        self._database.execute("insert into begun values (0, ?) on conflict do nothing", (end,))
        [(begun,)] = self._database.execute("select next_offset from begun")
        return int(begun)

    def positions(self) -> Mapping[str, int]:
        """Return the next offset of each webhook that has come anywhere."""
        return dict(self._database.execute("select webhook_id, next_offset from positions"))

    async def done(self, webhook_id: str, next_offset: int) -> None:
        """Note that a webhook needs nothing before an offset any more."""
        await asyncio.to_thread(
            self._write,
            "insert into positions values (?, ?) on conflict do update set next_offset = excluded.next_offset",
            (webhook_id, next_offset),
        )

    async def forget(self, webhook_id: str) -> None:
        """Drop what is known of a webhook that was deleted."""
        await asyncio.to_thread(self._write, "delete from positions where webhook_id = ?", (webhook_id,))

    def _write(self, statement: str, values: tuple[str | int, ...]) -> None:
        with self._turn:
            self._database.execute(statement, values)
