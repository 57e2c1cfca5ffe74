"""Folders of deleted topics on their way out: moved aside at once, removed in a thread, and after a crash at the next start."""

import asyncio
import logging
import secrets
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)


class DeletedFolders:
    """The only owner of the folder ``deleted/``; nothing in it is ever read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Go on with what a crash or a stop has interrupted."""
        if self._folder.exists():
            for path in self._folder.iterdir():
                _remove(path)

    def take(self, folder: Path) -> None:
        """Move a folder here, so that its name is free, and remove it without holding anybody up.

        Raises:
            OSError: it cannot be moved, and is still where it was.
        """
        self._folder.mkdir(exist_ok=True)
        aside = self._folder / f"{folder.name[:200]}.{secrets.token_hex(4)}"
        folder.rename(aside)
        _remove(aside)


def _remove(path: Path) -> None:
    asyncio.get_running_loop().run_in_executor(None, _remove_tree, path)


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("cannot remove %s of a deleted topic, the next start tries again: %s", path, error)
