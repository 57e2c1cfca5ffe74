"""``runtide sync``: ship what is still in spools."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from runtide.connection import Connection
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

if TYPE_CHECKING:
    from runtide.publisher.transport import Transport
    from runtide.sync import SyncReport


def sync(
    directories: list[Path] = typer.Argument(
        None, help="Spools, or directories that hold some; default: this machine's."
    ),
    broker: str = typer.Option(None, help="host:port of the broker; default: the running stack's, or RUNTIDE_BROKER."),
    uri: str = typer.Option(
        None, help="http(s)://host:port of a gateway to send through, where no broker can be reached; or RUNTIDE_URI."
    ),
    timeout: float = typer.Option(60.0, min=1, help="Seconds without progress after which a spool is left for later."),
) -> None:
    """Send the events that are still in spools to the log.

    Any number of times, from any machine: a spool that has arrived is deleted, and what is sent twice counts once. Spools
    whose training still runs are left alone: they send themselves.
    """
    connection = Connection.resolve(broker=broker, uri=uri)
    transport = connection.transport()
    if transport is None:
        raise InvalidRequest(
            "No broker is known. Start a stack with `runtide up`, or name one with --broker host:port, or a gateway with "
            "--uri http://host:port."
        )
    wanted = directories or [connection.spool]
    if missing := [str(directory) for directory in wanted if directories and not directory.is_dir()]:
        raise InvalidRequest(f"No such directory: {', '.join(missing)}")
    report = _send(wanted, transport, timeout)
    if not report.spools:
        typer.echo(f"Nothing to send: there is no spool in {', '.join(map(str, wanted))}.")
        return
    Console().print(_report_table(report))
    if report.refused:
        raise FatalError(
            f"We are not let in: {report.refused}. What is left stays in its spool; run `runtide sync` again after that"
        )
    if not report.complete:
        raise TransientError(
            "Not everything could be sent; what is left stays in its spool. Run `runtide sync` again later."
        )


def _send(directories: list[Path], transport: "Transport", timeout: float) -> "SyncReport":
    """Send with a progress bar per spool."""
    from runtide.sync import sync as send

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[Path, TaskID] = {}

        def show(spool: Path, sent: int, total: int) -> None:
            if spool not in tasks:
                tasks[spool] = bars.add_task(spool.parent.name[:12] or spool.name[:12], total=total)
            bars.update(tasks[spool], completed=sent)

        return send(directories, transport, show, timeout)


def _report_table(report: "SyncReport") -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("run", "events", "sent", ""):
        table.add_column(column)
    for spool in report.spools:
        table.add_row(spool.run_id[:12] or "?", str(spool.events), str(spool.sent), spool.problem)
    return table
