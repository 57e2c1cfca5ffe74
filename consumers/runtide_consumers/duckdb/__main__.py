"""``python -m runtide_consumers.duckdb``: folds the log into one DuckDB file and answers our queries of it."""

import argparse
import asyncio
import sys

from pydantic import ValidationError

from runtide_consumers.duckdb.database_file import connect
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.queries import Queries
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.server import Server, build_app, listen, read_or_make_token
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.snapshots import Snapshots
from runtide_consumers.metrics_port import add_metrics_options, exposed_counters
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

_OPTIONS = ("file", "upgrade", "query_host", "query_names", "query_port", "token_file")


def main() -> int:
    """Run the process and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in _OPTIONS}
    try:
        settings = DuckdbSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        parser.error(str(error))

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await _serve(settings, arguments, stop, ready)

    return run_process("duckdb", serve, arguments.log_level)


async def _serve(settings: DuckdbSettings, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
    projection = DuckdbProjection(settings)
    counters = exposed_counters(arguments, projection.name)
    queries = Queries(projection.owner, settings)
    snapshots = Snapshots(projection.owner, settings)
    token = read_or_make_token(settings.token_file)
    app = build_app(token, queries, snapshots, projection, counters, settings.served_hosts)
    sock = listen(settings.query_host, settings.query_port)
    server = Server(app)
    serving = asyncio.create_task(server.serve([sock]))
    serving.add_done_callback(lambda _: stop.set())
    address = f"http://{settings.query_host}:{sock.getsockname()[1]}"
    kafka, announce = kafka_settings(arguments), once(lambda: ready(address))

    async def begins() -> None:
        file = Generations(settings.file).live
        await projection.owner.open(file, lambda: connect(settings, file, read_only=True))
        announce()

    try:
        if settings.upgrade:
            await upgrade(DuckdbStore(settings, None), kafka, stop, begins)
        await run_projector(
            projection,
            kafka,
            stop=stop,
            ready=announce,
            counters=counters,
            progress=progress_of(arguments),
            settings=projector_settings(arguments),
        )
    finally:
        server.should_exit = True
        await serving
        queries.close()


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("runtide_consumers.duckdb", "Fold the log into one DuckDB file and answer queries of it.")
    add_metrics_options(parser)
    parser.add_argument("--file", help="the DuckDB file (default: RUNTIDE_DUCKDB_FILE)")
    parser.add_argument(
        "--upgrade", action="store_true", default=None, help="rebuild a file of an older format first (else: refuse it)"
    )
    parser.add_argument("--query-host", help="address of the query API (default: this machine only)")
    parser.add_argument("--query-names", help="more host names to serve, comma-separated (default: loopback's only)")
    parser.add_argument("--query-port", type=int, help="port of the query API (default: any free one)")
    parser.add_argument("--token-file", help="file with the query API's bearer token; made when missing")
    add_parking_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
