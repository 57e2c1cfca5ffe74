"""Projections of an operator's own: found by the note that each keeps beside its file, asked as the history is.

The note (``owner.json``) is written by whoever owns the file, ``runtide_consumers.duckdb.custom_program``.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from runtide_queries.history import History
from runtide_schemas.errors import NotFound, TransientError

OWNER_NOTE = "owner.json"
T = TypeVar("T")

log = logging.getLogger(__name__)

_CLOSING: set[asyncio.Task[None]] = set()
"""Held until they have ended, as the event loop does not hold them."""


@dataclass(slots=True)
class OtherProjection:
    """One of them.

    Attributes:
        name: its name.
        topics: topics that it folds.
        store: the process that owns its file.
    """

    name: str
    topics: tuple[str, ...]
    store: History
    _asking: int = 0
    _replaced: bool = False

    def replace(self) -> None:
        """Another process owns the file: let go of the connections to this one, once nobody asks it any more."""
        self._replaced = True
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._replaced and not self._asking:
            closing = asyncio.get_running_loop().create_task(self.store.__aexit__(None, None, None))
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)

    async def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of ``sql/history.sql`` that concerns what every file has.

        Raises:
            TransientError: its process is away.
        """
        return await self._asked(lambda: self.store.rows(statement, **parameters))

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset that it reads, per (topic, partition).

        Raises:
            TransientError: its process is away.
        """
        return await self._asked(self.store.positions)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._replaced:
            raise TransientError(f"the process of the projection {self.name} was started anew meanwhile; ask again")
        self._asking += 1
        try:
            return await ask()
        except TransientError as error:
            raise TransientError(
                f"the projection {self.name} does not answer: {error}. Start it (`runtide project {self.name}`), or say which "
                "projection is meant (--projection)"
            ) from error
        finally:
            self._asking -= 1
            self._close_when_idle()


class OtherProjections:
    """Looks for them in a folder, anew with every question: they come, go and move by themselves."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` has a folder for each; None: there are none."""
        self._folder = folder
        self._known: dict[Path, tuple[str, OtherProjection]] = {}

    def known(self) -> Mapping[str, OtherProjection]:
        """Return those that have a note, by name; one that was killed still has."""
        notes = sorted(self._folder.glob(f"*/{OWNER_NOTE}")) if self._folder is not None else []
        found = [one for note in notes if (one := self._read(note)) is not None]
        return {one.name: one for one in found}

    def named(self, name: str) -> OtherProjection:
        """Return one.

        Raises:
            NotFound: it has no note (any more).
        """
        found = self.known().get(name)
        if found is None:
            raise NotFound(f"the projection {name} is not running: start it (`runtide project {name}`)")
        return found

    async def close(self) -> None:
        """Let go of all connections."""
        for _, one in self._known.values():
            await one.store.__aexit__(None, None, None)
        await self.closing()

    async def closing(self) -> None:
        """Wait until connections that were let go of are closed."""
        await asyncio.gather(*_CLOSING)

    def _read(self, note: Path) -> OtherProjection | None:
        try:
            text = note.read_text(encoding="utf-8")
            before = self._known.get(note)
            if before is not None and before[0] == text:
                return before[1]
            told = json.loads(text)
            token = Path(told["token_file"]).read_text(encoding="ascii").strip()
            one = OtherProjection(told["name"], tuple(told["topics"]), History(told["url"], token, timeout_s=10.0))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("cannot read %s, which says where a projection answers: %s", note, error)
            return None
        if before is not None:
            before[1].replace()
        self._known[note] = (text, one)
        return one
