"""``runtide rebuild``: fold a store anew beside the live one, compare, and swap."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from runtide.connection import Connection
from runtide_deploy.cli.extras import require_extra
from runtide_schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from runtide_consumers.rebuild.watch import Watch


def rebuild(
    store: str = typer.Argument(
        metavar="NAME", help="postgres: what is; duckdb: how it went; or another of `runtide project --list`."
    ),
    rollback: bool = typer.Option(False, "--rollback", help="Go back to the store that the last swap replaced."),
    accept_differences: bool = typer.Option(
        False,
        "--accept-differences",
        help="Swap although the stores say different things: a fold was changed on purpose.",
    ),
    from_version: int = typer.Option(
        None, help="Do nothing unless the live store has this layout version (for scripts that upgrade)."
    ),
    data: Path = typer.Option(None, help="The stack's directory; default: RUNTIDE_DATA, or ~/.local/share/runtide."),
    broker: str = typer.Option(None, help="host:port of the log; default: the running stack's, or RUNTIDE_BROKER."),
    archive: str = typer.Option(
        None, help="Path or URI of the log's archive, read where the log begins later; default: RUNTIDE_ARCHIVE."
    ),
    postgres_dsn: str = typer.Option(
        None, help="PostgreSQL of a stack that was told to use one; default: RUNTIDE_POSTGRES_DSN, or its own."
    ),
) -> None:
    """Fold the log into a new store beside the live one, compare them entity by entity, and swap.

    Training, reading and the live projection go on. Interrupted at any moment it leaves the live store as it was; started
    again, it goes on. Stores that differ are not swapped, and what differs is named. A bar shows events, rate and time left.
    """
    require_extra("server", "rebuild")
    from runtide.kafka import quiet_loggers
    from runtide.kafka_settings import read_kafka_settings
    from runtide_consumers.rebuild.bar import run_watched
    from runtide_consumers.rebuild.procedure import Wishes, roll_back
    from runtide_consumers.rebuild.procedure import rebuild as run_rebuild
    from runtide_deploy.standalone.data_directory import DataDirectory
    from runtide_deploy.standalone.rebuildable import rebuildable_store

    connection = Connection.resolve(broker=broker, data=data)
    if not connection.broker and not rollback:
        raise InvalidRequest(
            "No broker is known. Start the stack with `runtide up`, or name the log with --broker host:port."
        )
    logging.basicConfig(stream=sys.stderr, level="WARNING", format="%(message)s")
    quiet_loggers()
    where = {"bootstrap": connection.broker} | ({"archive": archive} if archive else {})
    chosen = rebuildable_store(store, DataDirectory(connection.data), postgres_dsn)

    async def work(watch: "Watch") -> None:
        wishes = Wishes(accept_differences=accept_differences, from_version=from_version)
        if rollback:
            await roll_back(chosen, watch, wishes)
            return
        await run_rebuild(chosen, read_kafka_settings(**where), watch, wishes)

    run_watched(Console(stderr=True), work)
