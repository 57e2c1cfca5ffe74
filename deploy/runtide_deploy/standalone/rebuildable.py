"""The stores of a data directory, as projections and rebuilds see them: where they are and the secrets that open them."""

import argparse
import os

from runtide_consumers.duckdb.history import HISTORY
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.registered import load
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.postgres import PostgresCluster
from runtide_deploy.standalone.service_table import HOST
from runtide_schemas.errors import InvalidRequest


def rebuildable_store(name: str, directory: DataDirectory, postgres_dsn: str | None = None) -> RebuildableStore:
    """Return a store of a directory.

    Args:
        name: the projection's, as it is registered.
        directory: the data directory of a stack.
        postgres_dsn: the PostgreSQL that the stack was told to use; None: what the environment says, else its own.

    Raises:
        InvalidRequest: the directory has no such store, or no such projection is registered.
        FatalError: the projection cannot be used.
    """
    if name == PostgresStore.name:
        return PostgresStore(state_dsn(directory, postgres_dsn))
    if name != HISTORY.format.store:
        return _other_store(name, directory)
    file, token = directory.folder("history") / "history.duckdb", directory.folder("secrets") / "history-token"
    if not token.exists():
        raise InvalidRequest(f"{directory.path} has no history yet; name the stack's directory with --data")
    owner = OwnerClient(f"http://{HOST}:{directory.ports()['history']}", token.read_text(encoding="utf-8").strip())
    return DuckdbStore(DuckdbSettings(file=file), owner)


def options_of(name: str, directory: DataDirectory) -> list[str]:
    """Return the options by which one of our projections keeps its store in a directory; none for others.

    Raises:
        InvalidRequest: the directory has no PostgreSQL, and none is named.
    """
    if name == PostgresStore.name:
        return ["--dsn", state_dsn(directory)]
    if name != HISTORY.format.store or "RUNTIDE_DUCKDB_FILE" in os.environ:
        return []
    file, token = directory.folder("history") / "history.duckdb", directory.folder("secrets") / "history-token"
    return ["--file", str(file), "--token-file", str(token), "--query-port", str(directory.ports().get("history", 0))]


def own_folder(directory: DataDirectory) -> list[str]:
    """Return the option that has projections of an operator's own keep their files in a directory, unless the environment
    says where."""
    if "RUNTIDE_PROJECTIONS_FOLDER" in os.environ:
        return []
    return ["--folder", str(directory.folder("projections"))]


def _other_store(name: str, directory: DataDirectory) -> RebuildableStore:
    program = load(name)
    parser = argparse.ArgumentParser()
    program.add_rebuild_options(parser)
    arguments, _ = parser.parse_known_args(own_folder(directory))
    return program.store(arguments)


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
