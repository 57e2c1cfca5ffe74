"""``python -m runtide_consumers.postgres --dsn DSN``: the process that keeps PostgreSQL up to date."""

import argparse
import asyncio
import sys

from pydantic import ValidationError

from runtide_consumers.metrics_port import add_metrics_options, exposed_counters
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.postgres.settings import PostgresSettings
from runtide_consumers.process import (
    Ready,
    add_parking_option,
    argument_parser,
    kafka_settings,
    once,
    progress_of,
    projector_settings,
    run_process,
)
from runtide_consumers.projector import run_projector
from runtide_consumers.rebuild.upgrade import upgrade


def main() -> int:
    """Run the process and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args()
    given = {"dsn": arguments.dsn, "password_file": arguments.password_file, "tables": arguments.schema}
    given |= {"upgrade": arguments.upgrade}
    try:
        settings = PostgresSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError:
        parser.error("--dsn or RUNTIDE_POSTGRES_DSN is needed")

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await _serve(settings, arguments, stop, ready)

    return run_process("postgres-projector", serve, arguments.log_level)


async def _serve(settings: PostgresSettings, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
    kafka, announce = kafka_settings(arguments), once(lambda: ready(f"postgres schema={settings.tables}"))

    async def begins() -> None:
        announce()

    if settings.upgrade:
        await upgrade(PostgresStore(settings.address(), settings.tables), kafka, stop, begins)
    await run_projector(
        PostgresProjection(settings.address(), settings.tables),
        kafka,
        stop=stop,
        ready=announce,
        counters=exposed_counters(arguments, PostgresProjection.name),
        progress=progress_of(arguments),
        settings=projector_settings(arguments),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("runtide_consumers.postgres", "Fold the log into PostgreSQL.")
    add_metrics_options(parser)
    parser.add_argument("--dsn", help="default: RUNTIDE_POSTGRES_DSN")
    parser.add_argument(
        "--password-file", help="file with the password of the DSN (default: RUNTIDE_POSTGRES_PASSWORD_FILE)"
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        default=None,
        help="rebuild tables of an older layout first (else: refuse them)",
    )
    parser.add_argument("--schema", help="schema that holds the tables (default: runtide)")
    add_parking_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
