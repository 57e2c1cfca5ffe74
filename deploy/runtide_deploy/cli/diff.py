"""``runtide diff``: what changed between two moments, and which event did it."""

import json
from typing import Any

import typer
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.entities import ENTITY_HELP, resolve_entity
from runtide_deploy.cli.formatting import new_console, number, plain, when
from runtide_deploy.cli.moments import AT_HELP, moment
from runtide_deploy.cli.runs import AS_JSON, GATEWAY

_STYLES = {"added": "green", "changed": "yellow", "removed": "red"}


def diff(
    entity: str = typer.Argument(help=ENTITY_HELP),
    earlier: str = typer.Option(..., "--from", help=AT_HELP),
    later: str = typer.Option("now", "--to", help="The later moment, written as --from; now when left out."),
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Say what was added, changed or removed between two moments (params, tags, status, aliases, versions, metrics ...), and
    which event did it.

    Such as: `runtide diff model/digits --from 'monday' --to 'wednesday'`.
    """
    before, after = moment(earlier), moment(later)
    found = resolve_entity(entity, gateway, after)
    answer = api.get(gateway, f"{found.path}/diff", {"from": before, "to": after})
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    console = new_console()
    if answer["differences"]:
        console.print(differences_table(answer["differences"]))
    else:
        console.print("Nothing changed.")
    told = f"--from {answer['earlier']['position']} --to {answer['later']['position']}"
    console.print(f"\n[dim]{plain(told)}[/]", soft_wrap=True)


def differences_table(differences: list[dict[str, Any]]) -> Table:
    """Return a table of differences as the gateway gives them."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("what", "", "before", "after", "by", "who", "when"):
        table.add_column(column, overflow="fold")
    for one in differences:
        event = one["event"] or {}
        table.add_row(
            plain(one["what"]),
            f"[{_STYLES[one['change']]}]{one['change']}[/]",
            *(plain(_value(one["what"], one[side])) for side in ("before", "after")),
            event.get("type", ""),
            plain(event.get("actor") or event.get("writer_id", "")[:8]),
            when(event.get("event_time")) if event else "",
        )
    return table


def _value(what: str, value: Any) -> str:
    if value is None:
        return ""
    if what.endswith("_time"):
        return when(value)
    return number(value) if isinstance(value, float) else str(value)
