"""``runtide project``: run a projection by its name, ours or one of an operator's own."""

import os
from pathlib import Path

import typer

from runtide.connection import Connection
from runtide_deploy.cli.extras import require_extra
from runtide_schemas.errors import InvalidRequest

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def project(
    context: typer.Context,
    name: str = typer.Argument("", metavar="NAME", help="The projection, as its package registers it."),
    list_: bool = typer.Option(False, "--list", help="List what is registered, and what cannot be run and why."),
    data: Path = typer.Option(None, help="The stack's directory; default: RUNTIDE_DATA, or ~/.local/share/runtide."),
    bootstrap: str = typer.Option(
        None, "--broker", "--bootstrap", help="host:port of the log; default: the running stack's, or RUNTIDE_BROKER."
    ),
    metrics_port: int = typer.Option(None, help="Port of metrics for Prometheus, 0 = any; default: none."),
    upgrade: bool = typer.Option(False, "--upgrade", help="Rebuild a store of an older layout first; else refuse it."),
) -> None:
    """Fold the log by a projection, until Ctrl-C: in the foreground, or as a service of yours.

    Its store lies in the stack's directory. More options, which depend on the projection, are passed on as they are:
    `python -m runtide_consumers.project NAME --help` tells them. Packages register projections by entry points
    of the group `runtide.projections`.
    """
    require_extra("server", "project")
    from runtide_consumers.project import listed, main
    from runtide_consumers.registered import load
    from runtide_deploy.standalone.data_directory import DataDirectory
    from runtide_deploy.standalone.rebuildable import options_of

    if list_:
        for line in listed():
            typer.echo(line)
        return
    if not name:
        raise InvalidRequest("Name a projection; `runtide project --list` lists them.")
    load(name)
    connection = Connection.resolve(broker=bootstrap, data=data)
    if not connection.broker:
        raise InvalidRequest(
            "No broker is known. Start the stack with `runtide up`, or name the log with --broker host:port."
        )
    given = ["--bootstrap", connection.broker]
    given += [] if metrics_port is None else ["--metrics-port", str(metrics_port)]
    given += ["--upgrade"] if upgrade else []
    directory = DataDirectory(connection.data)
    # Not every program has an option for it. This process is that program from here on.
    os.environ.setdefault("RUNTIDE_PROJECTIONS_FOLDER", str(directory.folder("projections")))
    named = {argument.partition("=")[0] for argument in context.args}
    own = [] if named & {"--dsn", "--file"} else options_of(name, directory)
    raise typer.Exit(main([name, *own, *given, *context.args]))
