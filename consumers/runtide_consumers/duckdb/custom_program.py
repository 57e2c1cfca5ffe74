"""How a fold of an operator's own is run and rebuilt: where its file is, and the note that says where its owner answers."""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from runtide_consumers.duckdb.custom import DuckdbFold
from runtide_consumers.duckdb.custom_layout import FoldLayout, check_fold
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.service import own_file
from runtide_consumers.duckdb.settings import DuckdbSettings, ProjectionsSettings
from runtide_consumers.poison import last_line
from runtide_consumers.process import Ready
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_schemas.errors import FatalError

OWNER_NOTE = "owner.json"
"""Beside a projection's file: who owns it. Read also by the gateway (``runtide_queries.projections``)."""


class FoldProgram:
    """Implements ``Program`` for a ``DuckdbFold``."""

    def __init__(self, name: str, kind: type[DuckdbFold]) -> None:
        """Check the class.

        Raises:
            FatalError: it lacks something, or cannot be made.
        """
        check_fold(kind)
        self.name = self.process_name = name
        said = (kind.__doc__ or "").strip().partition("\n")[0]
        self.description = said or f"Fold the log into DuckDB by {kind.__module__}.{kind.__qualname__}."
        self._kind = kind

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add where its file is, and where the process answers."""
        self.add_rebuild_options(parser)
        parser.add_argument(
            "--upgrade",
            action="store_true",
            default=None,
            help="rebuild a file of an older layout first (else: refuse it)",
        )
        parser.add_argument("--query-host", help="address of the query API (default: this machine only)")
        parser.add_argument("--query-port", type=int, default=0, help="port of the query API (default: any free one)")

    def add_rebuild_options(self, parser: argparse.ArgumentParser) -> None:
        """Add where its file is."""
        parser.add_argument(
            "--folder",
            type=Path,
            help=f"folder of all projections' files; this one's is {self.name}/ in it (default: RUNTIDE_PROJECTIONS_FOLDER)",
        )

    def check(self, arguments: argparse.Namespace) -> None:
        """Look whether there is a place for its file."""
        self._folder(arguments)

    async def serve(self, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
        """Own the file, and say by a note where."""
        folder, layout = self._folder(arguments), self._layout()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = self._settings(folder, arguments)
        note = folder / OWNER_NOTE
        mine = {
            "name": self.name,
            "topics": sorted(layout.topics),
            "pid": os.getpid(),
            "token_file": str(self._token_file(folder).absolute()),
        }
        try:
            await own_file(
                settings, layout, arguments, stop, ready, lambda address: _write(note, {**mine, "url": address})
            )
        finally:
            if (_read(note) or {}).get("pid") == os.getpid():
                note.unlink(missing_ok=True)

    def store(self, arguments: argparse.Namespace) -> RebuildableStore:
        """Return its file, and its owner if a note says that there is one."""
        folder = self._folder(arguments)
        found = _read(folder / OWNER_NOTE)
        owner = None
        if found is not None:
            with contextlib.suppress(FileNotFoundError):
                owner = OwnerClient(found["url"], Path(found["token_file"]).read_text(encoding="ascii").strip())
        return DuckdbStore(self._settings(folder, arguments), owner, self._layout())

    def _folder(self, arguments: argparse.Namespace) -> Path:
        folder: Path = arguments.folder or ProjectionsSettings().required_folder()
        return folder / self.name

    def _layout(self) -> FoldLayout:
        try:
            fold = self._kind()
        except Exception as error:  # of somebody else's code
            raise FatalError(f"{self._kind.__qualname__} cannot be made: {last_line(error)}. Mend it") from error
        return FoldLayout(self.name, fold)

    def _settings(self, folder: Path, arguments: argparse.Namespace) -> DuckdbSettings:
        """Return the settings of its own file; limits of memory, queries and the like are the environment's."""
        upgrade: dict[str, Any] = {"upgrade": True} if getattr(arguments, "upgrade", None) else {}
        return DuckdbSettings(
            file=folder / f"{self.name}.duckdb",
            token_file=self._token_file(folder),
            query_host=getattr(arguments, "query_host", None) or "127.0.0.1",
            query_port=getattr(arguments, "query_port", 0),
            **upgrade,
        )

    def _token_file(self, folder: Path) -> Path:
        return folder / "token"


def _write(note: Path, found: dict[str, Any]) -> None:
    unfinished = note.with_name(f".{note.name}.{secrets.token_hex(4)}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(found) + "\n", encoding="utf-8")
    unfinished.replace(note)


def _read(note: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FatalError(f"{note} is damaged ({error}): delete it, and start the projection again") from error
    return found
