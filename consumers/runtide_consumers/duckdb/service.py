"""The process that owns a DuckDB file: it folds the log into it and answers what others of ours ask of it."""

import argparse
import asyncio
from collections.abc import Callable

from runtide_consumers.duckdb.database_file import connect
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.layout import Layout
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.queries import Queries
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.server import Server, build_app, listen, read_or_make_token
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.snapshots import Snapshots
from runtide_consumers.metrics_port import exposed_counters
from runtide_consumers.process import Ready, kafka_settings, once, progress_of, projector_settings
from runtide_consumers.projector import run_projector
from runtide_consumers.rebuild.code import hash_of_code
from runtide_consumers.rebuild.upgrade import upgrade


def _nobody(_address: str) -> None:
    """Nobody wants to know where the owner answers."""


async def own_file(
    settings: DuckdbSettings,
    layout: Layout,
    arguments: argparse.Namespace,
    stop: asyncio.Event,
    ready: Ready,
    answers_at: Callable[[str], None] = _nobody,
) -> None:
    """Own a file until ``stop`` is set. ``answers_at`` is told the address once the file is open, or being upgraded.

    Raises:
        FatalError: the file is in use or of another format, the port is taken, or going on would lose something.
    """
    sock = listen(settings.query_host, settings.query_port)
    address = f"http://{settings.query_host}:{sock.getsockname()[1]}"
    announce, told = once(lambda: ready(address)), once(lambda: answers_at(address))
    projection = DuckdbProjection(settings, layout, told)
    counters = exposed_counters(arguments, projection.name)
    queries = Queries(projection.owner, settings)
    snapshots = Snapshots(projection.owner, settings)
    token = read_or_make_token(settings.token_file)
    loaded = hash_of_code(layout.code)  # now, while it was imported a moment ago: what lies there later may be another
    app = build_app(token, queries, snapshots, projection, counters, settings.served_hosts, loaded)
    server = Server(app)
    serving = asyncio.create_task(server.serve([sock]))
    serving.add_done_callback(lambda _: stop.set())
    kafka = kafka_settings(arguments)

    async def begins() -> None:
        file = Generations(settings.file).live
        await projection.owner.open(file, lambda: connect(settings, file, read_only=True))
        told()
        announce()

    try:
        if settings.upgrade:
            await upgrade(DuckdbStore(settings, None, layout), kafka, stop, begins)
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
