"""``python -m runtide_consumers.rebuild postgres|duckdb``: rebuild a store beside the live one, and swap.

``runtide rebuild`` does the same for the stack of this machine. Exit codes: 0 done, 3 refused, and the message says why; 130 after Ctrl-C.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from runtide.kafka import quiet_loggers
from runtide.secret_file import read_secret
from runtide_consumers.process import EXIT_FATAL, add_archive_option, kafka_settings
from runtide_consumers.rebuild.bar import run_watched
from runtide_consumers.rebuild.procedure import Wishes, rebuild, roll_back
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.rebuild.watch import Watch
from runtide_schemas.errors import InvalidRequest, RuntideError


def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(given)
    logging.basicConfig(
        stream=sys.stderr, level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    quiet_loggers()

    async def work(watch: Watch) -> None:
        store = _postgres(arguments) if arguments.store == "postgres" else _duckdb(arguments)
        if arguments.rollback:
            await roll_back(store, watch)
        else:
            await rebuild(store, kafka_settings(arguments), watch, _wishes(arguments))

    try:
        run_watched(Console(stderr=True), work)
    except RuntideError as error:
        print(f"rebuild: {error}", file=sys.stderr, flush=True)  # noqa: T201 - for the operator, whatever the log level
        return EXIT_FATAL
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _wishes(arguments: argparse.Namespace) -> Wishes:
    return Wishes(accept_differences=arguments.accept_differences, from_version=arguments.from_version)


def _postgres(arguments: argparse.Namespace) -> RebuildableStore:
    from runtide_consumers.postgres.rebuild import PostgresStore
    from runtide_consumers.postgres.settings import PostgresSettings

    given = {"dsn": arguments.dsn, "password_file": arguments.password_file, "tables": arguments.schema}
    try:
        settings = PostgresSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise InvalidRequest("--dsn or RUNTIDE_POSTGRES_DSN is needed") from error
    return PostgresStore(settings.address(), settings.tables)


def _duckdb(arguments: argparse.Namespace) -> RebuildableStore:
    from runtide_consumers.duckdb.owner_client import OwnerClient
    from runtide_consumers.duckdb.rebuild import DuckdbStore
    from runtide_consumers.duckdb.settings import DuckdbSettings

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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtide_consumers.rebuild", description="Rebuild a store beside the live one, and swap."
    )
    stores = parser.add_subparsers(dest="store", required=True)
    postgres = stores.add_parser("postgres", help="the state in PostgreSQL")
    postgres.add_argument("--dsn", help="default: RUNTIDE_POSTGRES_DSN")
    postgres.add_argument("--password-file", help="file with its password (default: RUNTIDE_POSTGRES_PASSWORD_FILE)")
    postgres.add_argument("--schema", help="the live schema (default: runtide)")
    duckdb = stores.add_parser("duckdb", help="the history in DuckDB")
    duckdb.add_argument("--file", help="the file, as its owner was given it (default: RUNTIDE_DUCKDB_FILE)")
    duckdb.add_argument(
        "--url", default=os.environ.get("RUNTIDE_DUCKDB_URL", ""), help="where its owner answers; none: no owner runs"
    )
    duckdb.add_argument(
        "--token-file", type=Path, help="file with the owner's token (default: RUNTIDE_DUCKDB_TOKEN_FILE)"
    )
    for store in (postgres, duckdb):
        _add_wishes(store)
    return parser


def _add_wishes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rollback", action="store_true", help="go back to the store that the last swap replaced")
    parser.add_argument(
        "--accept-differences", action="store_true", help="swap although the stores say different things"
    )
    parser.add_argument(
        "--from-version", type=int, help="do nothing unless the live store has this layout version (for scripts)"
    )
    parser.add_argument("--bootstrap", help="broker, host:port (default: RUNTIDE_KAFKA_BOOTSTRAP)")
    add_archive_option(parser)
    parser.add_argument("--log-level", default="WARNING", help="level of the log on stderr (default: WARNING)")


if __name__ == "__main__":
    sys.exit(main())
