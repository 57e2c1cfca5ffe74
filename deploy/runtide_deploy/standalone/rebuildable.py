"""The two stores of a data directory, as a rebuild sees them: where they are and the secrets that open them."""

import os

from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.postgres import PostgresCluster
from runtide_deploy.standalone.service_table import HOST
from runtide_schemas.errors import InvalidRequest


def rebuildable_store(name: str, directory: DataDirectory, postgres_dsn: str | None = None) -> RebuildableStore:
    """Return a store of a directory.

    Args:
        name: ``postgres`` or ``duckdb``.
        directory: the data directory of a stack.
        postgres_dsn: the PostgreSQL that the stack was told to use; None: what the environment says, else its own.

    Raises:
        InvalidRequest: the directory has no such store.
    """
    if name == PostgresStore.name:
        return PostgresStore(state_dsn(directory, postgres_dsn))
    file, token = directory.folder("history") / "history.duckdb", directory.folder("secrets") / "history-token"
    if not token.exists():
        raise InvalidRequest(f"{directory.path} has no history yet; name the stack's directory with --data")
    owner = OwnerClient(f"http://{HOST}:{directory.ports()['history']}", token.read_text(encoding="utf-8").strip())
    return DuckdbStore(DuckdbSettings(file=file), owner)


def state_dsn(directory: DataDirectory, given: str | None = None) -> str:
    """Return the DSN of the state store of a directory, a secret; what is given or in the environment comes first.

    Raises:
        InvalidRequest: the directory has no PostgreSQL.
    """
    if named := given or os.environ.get("RUNTIDE_POSTGRES_DSN", ""):
        return named
    cluster = PostgresCluster(directory.folder("postgres"), directory.ports().get("postgres", 0))
    if not cluster.cluster_dir.exists():
        raise InvalidRequest(
            f"{directory.path} has no PostgreSQL; name the stack's directory with --data, or its database with --postgres-dsn"
        )
    return cluster.dsn()
