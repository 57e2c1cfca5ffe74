"""``runtide log``: the events of a run, as they lie in the log."""

import json
from typing import Any

import typer
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.formatting import new_console
from runtide_deploy.cli.runs import AS_JSON, GATEWAY, resolve_run

_SHOWN = 100


def log(
    run: str = typer.Argument(help="Run id, or the beginning of one."),
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Print the events of a run from the log: what happened, when, by which writer, and where it lies."""
    run_id = resolve_run(run, gateway)
    console = new_console()
    with console.status("Reading the log ..."):
        found = api.get(gateway, f"/runs/{run_id}/events")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console.print(events_table(found["events"]))


def events_table(events: list[dict[str, Any]]) -> Table:
    """Return a table of events as the gateway gives them."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("time", "event", "writer", "seq", "where", "what"):
        table.add_column(column, no_wrap=column != "what", justify="right" if column == "seq" else "left")
    for event in events:
        table.add_row(*_row(event))
    return table


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    envelope, origin = event["envelope"], event["origin"]
    where = f"{origin['topic'].removeprefix('runtide.')}-{origin['partition']}@{origin['offset']}"
    what = _what(envelope["type"], event["body"]).replace("[", r"\[")
    return (envelope["time"], envelope["type"], envelope["writer"][:8], str(envelope["seq"]), where, what)


def _what(event_type: str, body: dict[str, Any]) -> str:
    if event_type == "MetricsLogged":
        return f"{body['points']:,} points of {', '.join(body['keys'][:4])}"
    told = json.dumps(
        {key: value for key, value in body.items() if key != "run_id" and value not in ("", None, {}, [])}
    )
    return told if len(told) <= _SHOWN else told[: _SHOWN - 1] + "…"
