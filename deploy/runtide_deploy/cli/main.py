"""The ``runtide`` command."""

import os
import signal
import sys
from importlib.metadata import version

import typer
from rich.console import Console

from runtide_deploy.cli import (
    archive,
    check,
    demo,
    diff,
    importing,
    log,
    project,
    purge,
    quarantine,
    rebuild,
    runs,
    spool,
    sql,
    sync,
    token,
    up,
)
from runtide_deploy.cli.formatting import plain
from runtide_schemas.errors import ErrorKind, RuntideError

EXIT_CODES: dict[ErrorKind, int] = {
    ErrorKind.FIX_REQUEST: 2,
    ErrorKind.STOP: 3,
    ErrorKind.QUARANTINE: 3,
    ErrorKind.RETRY: 4,
}
INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    help="Runtide: an event-sourced tracking backend for machine learning.\n\n"
    "Start with `runtide up` in one terminal; then `import runtide` in a training script; then `runtide runs`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
COMMANDS = (
    up.up,
    runs.runs,
    runs.show,
    check.check,
    log.log,
    diff.diff,
    sql.sql,
    sync.sync,
    rebuild.rebuild,
    purge.delete,
    purge.purge,
    demo.demo,
)
for command in COMMANDS:
    app.command()(command)
app.command(context_settings=project.PASSED_ON)(project.project)
app.add_typer(archive.app, name="archive")
app.add_typer(spool.app, name="spool")
app.add_typer(importing.app, name="import")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(token.app, name="token")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"runtide {version('runtide')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command; print an error of ours as one message without a traceback."""
    console = Console(stderr=True)
    try:
        app()
    except RuntideError as error:
        console.print(f"[bold red]Error:[/] {plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_CODES[error.kind])
    except ValueError as error:
        if not (wrong := _wrong_settings(error)):
            raise
        console.print(f"[bold red]Error:[/] {plain(wrong)}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_CODES[ErrorKind.FIX_REQUEST])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _wrong_settings(error: ValueError) -> str:
    """Return what is wrong with settings of the environment; "" when the error is about something else."""
    pydantic = sys.modules.get("pydantic")  # it costs time to import, and where nobody did it is none of its errors
    if pydantic is None or not isinstance(error, pydantic.ValidationError) or not error.title.endswith("Settings"):
        return ""
    about = error.title.removesuffix("Settings").lower()
    wrong = [f"{about} {' '.join(map(str, one['loc']))}{_given(one['input'])}: {one['msg']}" for one in error.errors()]
    return f"A setting in the environment (RUNTIDE_{about.upper()}_...) makes no sense: {'; '.join(wrong)}"


def _given(value: object) -> str:
    """Return what was given for one setting; of what is missing pydantic has all the others, secrets among them."""
    return f" is {value!r}" if isinstance(value, str | int | float) else ""
