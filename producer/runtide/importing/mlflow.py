"""MLflow: its file store (``mlruns/``) or its SQLite database (``mlflow.db``), without MLflow being installed.

Run ids stay what they are, so do params, tags (``mlflow.parentRunId`` and the note among them), datasets and the experiments'
names. Files are copied from where they lie on this machine, models of MLflow 3 to ``models/<name>`` of their run.
Deleted runs and experiments are left out unless asked for; so are traces and the registry, always.
"""

from pathlib import Path

from runtide.connection import Connection
from runtide.importing.importer import ImportOptions, ImportReport, import_runs
from runtide.importing.local_files import existing
from runtide.importing.mlflow_database import Database
from runtide.importing.mlflow_files import FileStore, open_file_store
from runtide.importing.progress import Progress

_DATABASE = "mlflow.db"


def import_store(
    path: str | Path,
    connection: Connection | None = None,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
    *,
    artifact_roots: tuple[Path, ...] = (),
    deleted: bool = False,
) -> ImportReport:
    """Import a file store or a database; see ``import_runs``.

    Args:
        path: ``mlruns``, the folder that has it, ``mlflow.db``, or the folder that has that.
        connection: where the stack is; None for what the environment says.
        options: how.
        progress: hears how far it is.
        artifact_roots: further folders that runs' files may be read from.
        deleted: import what is deleted, too.

    Raises:
        InvalidRequest: it is neither.
    """
    return import_runs(open_store(path, artifact_roots, deleted), connection or Connection.resolve(), options, progress)


def open_store(path: str | Path, artifact_roots: tuple[Path, ...] = (), deleted: bool = False) -> FileStore | Database:
    """Return the source at a path. Raises InvalidRequest when there is none."""
    given = existing(path, "MLflow's runs").absolute()
    for candidate in (given, given / _DATABASE):
        if Database.is_at(candidate) and (candidate == given or FileStore.at(given) is None):
            return Database(candidate, artifact_roots, deleted)
    return open_file_store(given, artifact_roots, deleted)
