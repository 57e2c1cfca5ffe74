"""``runtide sync``: ship what is still in spools."""

import time
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
    ended: bool = typer.Option(
        False,
        "--ended",
        help="I know that the writers of DIRECTORIES have ended, on whatever machine, and copies were made after that: "
        "recover them.",
    ),
    watch: float = typer.Option(
        None, min=1, help="Go on every so many seconds, until all writers have ended and everything is sent."
    ),
) -> None:
    """Send the events that are still in spools to the log.

    Any number of times, from any machine, also while training goes on: what is sent twice counts once.

    **sent**: the writer has ended; all has arrived and the spool is deleted. **followed**: the writer lives without a
    broker, or may live on another machine, or have gone on after a copy was made: what it has numbered has arrived, the rest
    waits for it. **left alone**: the writer sends it. **not sent**: see below the table.

    For a copy of a spool, copy and sync as often as you like; when the training has ended, copy once more
    and sync: a run that ended well is then complete. For one that was killed, run `runtide sync` on its machine, or say
    `--ended`. Exit code 4: something waits that only you can have sent; 0: nothing does.
    """
    connection = Connection.resolve(broker=broker, uri=uri)
    transport = connection.transport()
    if transport is None:
        raise InvalidRequest(
            "No broker is known. Start a stack with `runtide up`, or name one with --broker host:port, or a gateway with "
            "--uri http://host:port."
        )
    if ended and not directories:
        raise InvalidRequest("--ended needs the directories of the spools whose writers you know to have ended.")
    if missing := [str(directory) for directory in directories or () if not directory.is_dir()]:
        raise InvalidRequest(f"No such directory: {', '.join(missing)}")
    _sync(directories or [connection.spool], transport, timeout, watch, ended=ended)


def _sync(wanted: list[Path], transport: "Transport", timeout: float, watch: float | None, *, ended: bool) -> None:
    """Send, again every ``watch`` seconds if wanted, and say what changes; raise when something is left in the end."""
    report = _send(wanted, transport, timeout, ended)
    _say(report, wanted)
    while watch is not None and not report.refused and (report.open or not report.complete):
        time.sleep(watch)
        before, report = report, _send(wanted, transport, timeout, ended)
        if report != before:
            _say(report, wanted)
    _raise_what_is_left(report)


def _say(report: "SyncReport", wanted: list[Path]) -> None:
    if not report.spools:
        typer.echo(f"Nothing to send: there is no spool in {', '.join(map(str, wanted))}.")
        return
    Console().print(_report_table(report))
    for spool in report.spools:
        if text := spool.problem or spool.note:
            typer.echo(f"{spool.run_id[:12] or spool.directory}: {text}")


def _raise_what_is_left(report: "SyncReport") -> None:
    if report.refused:
        raise FatalError(
            f"We are not let in: {report.refused}. What is left stays in its spool; run `runtide sync` again after that"
        )
    if not report.complete:
        raise TransientError(
            "Not everything could be sent; what is left stays in its spool. Run `runtide sync` again later."
        )


def _send(directories: list[Path], transport: "Transport", timeout: float, ended: bool) -> "SyncReport":
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

        return send(directories, transport, show, timeout, ended=ended)


def _report_table(report: "SyncReport") -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("run", "writer", "events", "sent", ""):
        table.add_column(column)
    for spool in report.spools:
        run = spool.run_id[:12] or "?"
        table.add_row(run, spool.directory.name[:8], str(spool.events), str(spool.sent), spool.state)
    return table
