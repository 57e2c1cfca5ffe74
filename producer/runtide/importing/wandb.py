"""Weights & Biases: transaction logs of its client (``wandb/``, offline runs and others), and exported histories as tables.

Logs keep everything: config, history, system metrics, summary, tags, notes, files. Tables keep the history, and the
config and summary that lie beside them: ``wandb_tables.py``. Config becomes params, ``a.b`` for what is nested; the
project becomes the experiment; values that are no numbers are counted in the report, and files of media are artifacts.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from runtide.connection import Connection
from runtide.importing.importer import ImportOptions, ImportReport, import_runs
from runtide.importing.local_files import existing
from runtide.importing.progress import Progress
from runtide.importing.records import LeftOut, SourceRun
from runtide.importing.wandb_log import SUFFIX, find_logs, log_runs
from runtide.importing.wandb_tables import SUFFIXES, table_runs
from runtide_schemas.errors import InvalidRequest


def import_export(
    path: str | Path,
    connection: Connection | None = None,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a ``wandb`` folder, a run's folder in it, a ``.wandb`` file, or tables; see ``import_runs``.

    Args:
        path: what to read.
        connection: where the stack is; None for what the environment says.
        options: how.
        progress: hears how far it is.

    Raises:
        InvalidRequest: there is nothing of the kind, or the extra ``wandb`` is needed and not installed.
    """
    return import_runs(Export(path), connection or Connection.resolve(), options, progress)


class Export:
    """The runs that W&B's client has left in a folder, or that were exported to it."""

    kind = "wandb"

    def __init__(self, path: str | Path) -> None:
        self._path = existing(path, "W&B's runs").absolute()
        self._logs = find_logs(self._path) if self._path.is_dir() else []
        if self._path.suffix == SUFFIX and self._path.is_file():
            self._logs = [self._path]
        if self._logs and importlib.util.find_spec("wandb") is None:
            raise InvalidRequest("reading W&B's logs needs its package: pip install 'runtide[wandb]'")

    def runs(self) -> Iterator[SourceRun | LeftOut]:
        """Yield the runs of logs, or where there is none, of tables."""
        if self._logs:
            yield from log_runs(self._logs)
            return
        found = list(table_runs(self._path)) if self._path.is_dir() or self._path.suffix in SUFFIXES else []
        if not found:
            raise InvalidRequest(
                f"there is neither a log (*{SUFFIX}) nor a table ({', '.join(SUFFIXES)}) of W&B in {self._path}"
            )
        yield from found
