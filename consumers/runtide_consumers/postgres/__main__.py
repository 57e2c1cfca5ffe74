"""``python -m runtide_consumers.postgres --dsn DSN``: the process that keeps PostgreSQL up to date."""

import argparse
import asyncio
import os
import sys

from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.process import Ready, argument_parser, kafka_settings, run_process
from runtide_consumers.projector import run_projector


def main() -> int:
    """Run the process and return its exit code."""
    parser = argument_parser("runtide_consumers.postgres", "Fold the log into PostgreSQL.")
    parser.add_argument("--dsn", default=os.environ.get("RUNTIDE_POSTGRES_DSN"), help="default: RUNTIDE_POSTGRES_DSN")
    parser.add_argument("--schema", default="runtide", help="schema that holds the tables (default: runtide)")
    arguments = parser.parse_args()
    if not arguments.dsn:
        parser.error("--dsn or RUNTIDE_POSTGRES_DSN is needed")

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await _serve(arguments, stop, ready)

    return run_process("postgres-projector", serve, arguments.log_level)


async def _serve(arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
    projection = PostgresProjection(arguments.dsn, arguments.schema)
    await run_projector(
        projection, kafka_settings(arguments), stop=stop, ready=lambda: ready(f"postgres schema={arguments.schema}")
    )


if __name__ == "__main__":
    sys.exit(main())
