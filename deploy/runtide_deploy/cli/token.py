"""``runtide token``: API tokens for the gateway."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from runtide_deploy.cli.extras import require_extra
from runtide_deploy.cli.formatting import new_console
from runtide_schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from runtide_queries.api_tokens import ApiToken

app = typer.Typer(
    help="Make, list and revoke API tokens of the gateway.\n\n"
    "Clients show one as `RUNTIDE_GATEWAY_TOKEN`; MLflow's as `MLFLOW_TRACKING_TOKEN`, or as `MLFLOW_TRACKING_PASSWORD` with any "
    "user name. The gateway sees every change at once. The tokens' hashes are in the stack's directory, or in the file that "
    "`RUNTIDE_GATEWAY_TOKENS_FILE` names.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
DATA = typer.Option(None, help="The stack's directory; default: RUNTIDE_DATA, or ~/.local/share/runtide.")
FILE = typer.Option(None, "--file", help="The file of tokens of a gateway that is no stack's.")


@app.command()
def create(
    name: str = typer.Argument(help="Whose it is, or what for: the actor of what is done with it."),
    scope: str = typer.Option(
        "read", help="read: all that is only read. log: what a training job does. operate: everything."
    ),
    days: int = typer.Option(90, min=1, max=36_500, help="For how many days it is valid."),
    never_expires: bool = typer.Option(False, "--never-expires", help="It is valid until it is revoked."),
    data: Path = DATA,
    file: Path = FILE,
) -> None:
    """Make a token and print it: this once, as only its hash is kept."""
    require_extra("server", "token")
    from runtide_queries.api_tokens import Scope, changing, write_tokens

    if scope not in set(Scope):
        raise InvalidRequest(f"--scope is one of {', '.join(Scope)}, not {scope!r}")
    path = _file(data, file)
    with changing(path) as tokens:
        changed, kept, token = tokens.with_new(
            name, Scope(scope), now=datetime.now(UTC), days=None if never_expires else days
        )
        write_tokens(path, changed)
    typer.echo(token)
    until = f"until {kept.expires:%Y-%m-%d %H:%M} UTC" if kept.expires else "until it is revoked"
    typer.echo(f"Keep it: it is not shown again. {kept.name} ({kept.id}) may {kept.scope.value} {until}.", err=True)


@app.command("ls")
def list_tokens(
    as_json: bool = typer.Option(False, "--json", help="Print JSON."), data: Path = DATA, file: Path = FILE
) -> None:
    """List the tokens that were made, the revoked ones too."""
    require_extra("server", "token")
    from runtide_queries.api_tokens import ApiTokens, read_tokens

    path = _file(data, file)
    tokens = (read_tokens(path) if path.exists() else ApiTokens()).tokens
    if as_json:
        now = datetime.now(UTC)
        rows = [one.model_dump(mode="json", exclude={"sha256"}) | {"state": one.state(now)} for one in tokens]
        typer.echo(json.dumps(rows))
        return
    if not tokens:
        typer.echo("There are no tokens; `runtide token create NAME --scope read` makes one.")
        return
    new_console().print(_table(tokens))


@app.command()
def revoke(token: str = typer.Argument(help="Its id, or its name."), data: Path = DATA, file: Path = FILE) -> None:
    """Make a token invalid, at once and for good."""
    require_extra("server", "token")
    from runtide_queries.api_tokens import changing, write_tokens

    path = _file(data, file)
    with changing(path) as tokens:
        changed, revoked = tokens.with_revoked(token, now=datetime.now(UTC))
        write_tokens(path, changed)
    typer.echo(f"revoked {revoked.name} ({revoked.id})")


def _file(data: Path | None, file: Path | None) -> Path:
    """Return the file that is meant: the one given, else the directory's that is given, else the environment's."""
    from runtide_deploy.standalone.data_directory import DataDirectory
    from runtide_deploy.standalone.settings import StandaloneSettings
    from runtide_deploy.standalone.tokens import TOKENS_FILE, tokens_file

    if file is not None and data is not None:
        raise InvalidRequest("give either --file or --data, not both")
    if file is None and data is None and TOKENS_FILE in os.environ:
        file = Path(os.environ[TOKENS_FILE])
    path = file or tokens_file(DataDirectory(data or StandaloneSettings.model_validate({}).data))
    if not path.parent.is_dir():
        raise InvalidRequest(
            f"{path.parent} does not exist: start the stack once with `runtide up`, or name a file of tokens with --file"
        )
    return path


def _table(tokens: "tuple[ApiToken, ...]") -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for column in ("id", "name", "scope", "created", "expires", "state"):
        table.add_column(column, no_wrap=column != "name")
    now = datetime.now(UTC)
    for one in tokens:
        table.add_row(
            one.id,
            escape(one.name),
            one.scope.value,
            f"{one.created:%Y-%m-%d}",
            f"{one.expires:%Y-%m-%d}" if one.expires else "never",
            one.state(now),
        )
    return table
