"""The history in DuckDB as it is started and rebuilt by its name."""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from runtide.secret_file import read_secret
from runtide_consumers.duckdb.history import HISTORY
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.service import own_file
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.sparing import spare_pandas
from runtide_consumers.process import Ready
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_schemas.errors import InvalidRequest

_OPTIONS = ("file", "upgrade", "query_host", "query_names", "query_port", "token_file")


class HistoryProgram:
    """Implements ``Program``."""

    process_name = "duckdb"
    description = "Fold the log into one DuckDB file and answer queries of it."

    def __init__(self, name: str = HISTORY.format.store) -> None:
        self.name = name

    @classmethod
    def program(cls, name: str) -> Self:
        """Return what is run by this name."""
        return cls(name)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which file it is, and where the process answers."""
        parser.add_argument("--file", help="the DuckDB file (default: RUNTIDE_DUCKDB_FILE)")
        parser.add_argument(
            "--upgrade",
            action="store_true",
            default=None,
            help="rebuild a file of an older format first (else: refuse it)",
        )
        parser.add_argument("--query-host", help="address of the query API (default: this machine only)")
        parser.add_argument(
            "--query-names", help="more host names to serve, comma-separated (default: loopback's only)"
        )
        parser.add_argument("--query-port", type=int, help="port of the query API (default: any free one)")
        parser.add_argument("--token-file", help="file with the query API's bearer token; made when missing")

    def add_rebuild_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which file it is, and where its owner answers."""
        parser.add_argument("--file", help="the file, as its owner was given it (default: RUNTIDE_DUCKDB_FILE)")
        parser.add_argument(
            "--url",
            default=os.environ.get("RUNTIDE_DUCKDB_URL", ""),
            help="where its owner answers; none: no owner runs",
        )
        parser.add_argument(
            "--token-file", type=Path, help="file with the owner's token (default: RUNTIDE_DUCKDB_TOKEN_FILE)"
        )

    def check(self, arguments: argparse.Namespace) -> None:
        """Look at the settings."""
        _settings(arguments)

    async def serve(self, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
        """Own the file."""
        spare_pandas()
        await own_file(_settings(arguments), HISTORY, arguments, stop, ready)

    def store(self, arguments: argparse.Namespace) -> RebuildableStore:
        """Return the file, and its owner if one answers."""
        try:
            settings = DuckdbSettings(**({} if arguments.file is None else {"file": arguments.file}))
        except ValidationError as error:
            raise InvalidRequest("--file or RUNTIDE_DUCKDB_FILE is needed") from error
        if not arguments.url:
            return DuckdbStore(settings, None)
        token_file: Path | None = arguments.token_file or settings.token_file
        if token_file is None:
            raise InvalidRequest("--token-file or RUNTIDE_DUCKDB_TOKEN_FILE is needed with --url")
        token = read_secret(token_file, "RUNTIDE_DUCKDB_TOKEN_FILE")
        return DuckdbStore(settings, OwnerClient(arguments.url.rstrip("/"), token))


def _settings(arguments: argparse.Namespace) -> DuckdbSettings:
    given = {name: getattr(arguments, name) for name in _OPTIONS}
    try:
        return DuckdbSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise InvalidRequest(str(error)) from error
