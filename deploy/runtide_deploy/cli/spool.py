"""``runtide spool``: look into what is not sent yet."""

import dataclasses
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from runtide.connection import Connection
from runtide_deploy.cli.formatting import duration, new_console, size
from runtide_schemas.errors import FatalError, InvalidRequest

if TYPE_CHECKING:
    from runtide.spool.inspection import SpoolSummary

app = typer.Typer(
    help="Look into spools: the events on this machine that training wrote, until the broker has them.\n\n"
    "`ls` lists them, `verify` checks every byte, `export` writes a run's events to a file. None of them changes anything; "
    "`runtide sync` sends what is left behind.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
DIRECTORIES = typer.Argument(None, help="Spools, or directories that hold some; default: this machine's.")


class Format(StrEnum):
    """Of an export."""

    jsonl = "jsonl"
    avro = "avro"


@app.command("ls")
def list_spools(
    directories: list[Path] = DIRECTORIES, as_json: bool = typer.Option(False, "--json", help="Print JSON.")
) -> None:
    """List the spools: whose they are, what they hold, and who takes care of them.

    **live**: its training runs. **being sent**: by a `runtide sync`, or its training runs in another container.
    **elsewhere**: of another machine, where its training may run, or a copy, which may lack its end. **left behind**: its
    training has ended. `runtide sync` sends each of them as far as nobody else does.
    **unreadable**: run `runtide spool verify`. *points* are metric points that are not events yet.
    """
    from runtide.spool.inspection import summarize

    found = [summarize(path) for path in _spools(directories)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(spool) | {"directory": str(spool.directory)} for spool in found]))
        return
    if not found:
        typer.echo(f"There is no spool in {_named(directories)}: everything that was logged has been sent.")
        return
    new_console().print(_table(found))


@app.command()
def verify(directories: list[Path] = DIRECTORIES) -> None:
    """Read every file of the spools and say what is damaged: checksums, sequences, headers, names.

    A torn end is no damage: a killed writer, or a living one, leaves that, and `runtide sync` cuts it. The exit code is 3
    when something is damaged.
    """
    from runtide.spool.inspection import verify as findings_of

    damaged = count = 0
    for directory in _spools(directories):
        count += 1
        findings = list(findings_of(directory))
        damaged += any(finding.damage for finding in findings)
        for finding in findings:
            typer.echo(f"{'DAMAGED' if finding.damage else 'torn':<8} {finding.path}: {finding.text}")
        if not findings:
            typer.echo(f"{'sound':<8} {directory}")
    if damaged:
        raise FatalError(
            f"{damaged} of {count} spools are damaged. Keep a copy; `runtide spool export` still reads whole files, and "
            "`runtide sync` sends what comes before the damage"
        )


@app.command()
def export(
    what: str = typer.Argument(help="A run id, or the beginning of one, or a spool's directory."),
    to: Path | None = typer.Option(None, "--to", help="File to write; default: standard output."),
    form: Format = typer.Option(
        Format.jsonl, "--format", help="jsonl: an object per line. avro: an object container file."
    ),
) -> None:
    """Write what the spools of a run hold, sent or not, to a file that any tool reads.

    Each line or record is an event: its envelope (who, when, which number) and its body. Points that are not events yet
    come last, with the number -1. Nothing is sent and nothing deleted.
    """
    from runtide.spool.export import exported, write_avro, write_json_lines

    spools = _spools_of(what)
    write = write_avro if form is Format.avro else write_json_lines
    if to is None:
        write(exported(spools), sys.stdout.buffer)
        return
    with to.open("wb") as file:
        count = write(exported(spools), file)
    typer.echo(f"{count:,} events of {len(spools)} writers are in {to}.")


def _spools(directories: list[Path] | None) -> list[Path]:
    from runtide.importing.ledger import Ledger
    from runtide.sync import find_spools

    if missing := [str(directory) for directory in directories or () if not directory.is_dir()]:
        raise InvalidRequest(f"No such directory: {', '.join(missing)}")
    places = directories or [Connection.resolve().spool]
    return [*find_spools(places), *(spool for place in places for spool in Ledger(place).noted())]


def _spools_of(what: str) -> list[Path]:
    if Path(what).is_dir():
        found = _spools([Path(what)])
    else:
        found = [path for path in _spools(None) if path.parent.name.startswith(what)]
    if runs := sorted({path.parent.name for path in found})[1:]:
        raise InvalidRequest(
            f"{what} is more than one run: {found[0].parent.name}, {', '.join(runs)}. Name one of them"
        )
    if not found:
        raise InvalidRequest(f"No spool holds a run {what}; `runtide spool ls` lists them")
    return found


def _named(directories: list[Path] | None) -> str:
    return ", ".join(map(str, directories or [Connection.resolve().spool]))


def _table(found: "list[SpoolSummary]") -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for column in ("run", "writer", "age"):
        table.add_column(column, no_wrap=True)
    for column in ("events", "unsent", "points", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state")
    for spool in found:
        table.add_row(
            spool.run_id[:12] or "(requests)",
            spool.writer_id[:8],
            duration(spool.created, None),
            f"{spool.events:,}",
            f"{spool.unsent:,}",
            f"{spool.points:,}",
            size(spool.bytes),
            escape(f"{spool.state}: {spool.problem}" if spool.problem else spool.state),
        )
    return table
