"""``runtide quarantine``: what could not be applied, and what is to become of it."""

import getpass
import json
import re
import socket
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.formatting import new_console, plain, size, when
from runtide_deploy.cli.runs import AS_JSON, GATEWAY
from runtide_schemas.errors import InvalidRequest

app = typer.Typer(
    help="Events that could not be applied, and what waits behind them.\n\n"
    "`ls` lists them, `show` tells all about one. After a fix, `retry` has a run (or another entity) tried again in order; "
    "`drop` gives one event up for good, so that what waits behind it goes on.",
    no_args_is_help=True,
)
WAIT_S = 20.0
PROJECTION = typer.Option(
    "", "--projection", "-p", help="Only in this projection (postgres, duckdb ...); default: all."
)
REASON = typer.Option("", "--reason", "-m", help="Why; kept in the log.")
_PLACE = re.compile(r"(?P<topic>[\w.-]+)/(?P<partition>\d{1,10})/(?P<offset>\d{1,18})\Z", re.ASCII)
_SHOWN_HEX = 256


@app.command("ls")
def list_(
    entity: str = typer.Argument("", help="Only of this run or other entity."),
    kind: str = typer.Option(
        "", "--kind", "-k", help="Only of a kind: undecodable, unknown_schema, invalid, failed, behind or dropped."
    ),
    projection: str = PROJECTION,
    limit: int = typer.Option(50, "--limit", "-n", min=1, max=1000, help="Most events to list."),
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """List parked events in the order of the log: where, why, and in which projection."""
    wanted: dict[str, str | int] = {"entity": entity, "kind": kind, "projection": projection, "page_size": limit}
    found = api.get(gateway, "/quarantine", wanted)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = new_console()
    if found["events"]:
        console.print(_events_table(found["events"]))
    else:
        console.print("Nothing is parked." if not kind else f"Nothing is {kind}.")
    for name, counts in sorted(found["counts"].items()):
        text = ", ".join(f"{count:,} {one}" for one, count in sorted(counts.items())) or "nothing"
        console.print(f"[dim]{name}: {text}[/]", highlight=False)
    for name, why in found["unavailable"].items():
        console.print(f"[yellow]{name} could not be asked: {plain(why)}[/]")
    if found["next_page_token"]:
        console.print(f"[dim]More than {limit}: raise --limit, or narrow by entity or --kind.[/]")


@app.command()
def show(
    event: str = typer.Argument(help="TOPIC/PARTITION/OFFSET, as `ls` prints it."),
    projection: str = PROJECTION,
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Show one parked event: why, its headers and bytes, what it decodes to or why not, what waits behind it."""
    place = parse_place(event)
    path = f"/quarantine/{place['topic']}/{place['partition']}/{place['offset']}"
    found = api.get(gateway, path, {"projection": projection})
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _print_event(new_console(), found)


@app.command()
def retry(
    what: str = typer.Argument("", help="A run or other entity, or TOPIC/PARTITION/OFFSET: that event's entity."),
    kind: str = typer.Option("", "--kind", "-k", help="Every entity that has an event of this kind."),
    reason: str = REASON,
    projection: str = PROJECTION,
    gateway: str = GATEWAY,
) -> None:
    """Have parked events tried again, in the order of the log; what is poison again stays, with the rest behind it."""
    body: dict[str, Any] = {"kind": kind, "reason": reason, "projection": projection}
    body |= place if (place := _PLACE.match(what) and parse_place(what)) else {"entity": what}
    found = _decide(gateway, "/quarantine/retry", body)
    _print_decided(new_console(), found)
    if found["more"]:
        typer.echo("There are more entities of this kind: run it again.")


@app.command()
def drop(
    event: str = typer.Argument(help="TOPIC/PARTITION/OFFSET, as `ls` prints it."),
    reason: str = typer.Option(
        ..., "--reason", "-m", help="Why; kept in the log and beside what is left of the event."
    ),
    projection: str = PROJECTION,
    gateway: str = GATEWAY,
) -> None:
    """Give up one parked event for good: it is never applied, also in a rebuild. It stays in the log."""
    found = _decide(gateway, "/quarantine/drop", {**parse_place(event), "reason": reason, "projection": projection})
    _print_decided(new_console(), found)


def parse_place(text: str) -> dict[str, Any]:
    """Return topic, partition and offset of a record.

    Raises:
        InvalidRequest: it names none.
    """
    match = _PLACE.match(text)
    if match is None:
        raise InvalidRequest(
            f"{text!r} is no event: write TOPIC/PARTITION/OFFSET, as `runtide quarantine ls` prints it"
        )
    return {"topic": match["topic"], "partition": int(match["partition"]), "offset": int(match["offset"])}


def _decide(gateway: str, path: str, body: dict[str, Any]) -> Any:
    return api.post(gateway, path, {**body, "actor": f"{getpass.getuser()}@{socket.gethostname()}", "wait": WAIT_S})


def _print_decided(console: Console, found: dict[str, Any]) -> None:
    for one in found["decided"]:
        about = one["record"] or one["entity"]
        done = "[green]carried out[/]" if one["carried_out"] else "[yellow]not carried out yet[/]"
        console.print(
            f"{one['projection']}: {plain(about)} {done} ({one['topic']}/{one['partition']}/{one['offset']})",
            highlight=False,
        )
    if not all(one["carried_out"] for one in found["decided"]):
        console.print(
            "[yellow]What is decided stands in the log; a projection carries it out once it has read so far.[/]"
        )
    console.print("[dim]`runtide quarantine ls` shows what is still parked.[/]")


def _events_table(events: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("event", "about", "kind", "parked in", "why"):
        table.add_column(column, no_wrap=column == "event", overflow="fold")
    for event in events:
        table.add_row(
            _where(event),
            plain(event["entity"]) or "-",
            event["kind"],
            ", ".join(one["projection"] for one in event["projections"]),
            plain(event["reason"]),
        )
    return table


def _where(event: dict[str, Any]) -> str:
    return f"{event['topic']}/{event['partition']}/{event['record_offset']}"


def _print_event(console: Console, found: dict[str, Any]) -> None:
    event = found["event"]
    console.print(f"[bold]{_where(event)}[/] of {when(event['parked_at'])}", highlight=False)
    for one in event["projections"]:
        entity = f", about {one['entity']}" if one["entity"] else ""
        console.print(f"  {one['projection']}: {one['kind']}{plain(entity)}: {plain(one['reason'])}", highlight=False)
    problem = found["problem"]
    console.print(f"decodes now: {'no: ' + plain(problem) if problem else 'yes'}", highlight=False)
    if found["body"]:
        console.print_json(data=found["body"])
    _print_bytes(console, "key", found["key"])
    for name, value in found["headers"]:
        _print_bytes(console, name, value)
    _print_bytes(console, "value", found["value"])
    if found["waiting"]:
        console.print(f"\n[bold]also parked for {plain(event['entity'])}[/]", highlight=False)
        console.print(_events_table(found["waiting"]))
    if found["more_waiting"]:
        console.print("[dim]and more: `runtide quarantine ls ENTITY` lists them.[/]")


def _print_bytes(console: Console, name: str, data: dict[str, Any] | None) -> None:
    if data is None:
        text = "none"
    elif data["text"] is not None and data["text"].isprintable():
        text = data["text"]
    else:
        more = "…" if len(data["hex"]) > _SHOWN_HEX else ""
        text = f"{data['hex'][:_SHOWN_HEX]}{more} ({size(data['size'])}; --json has it as base64)"
    console.print(f"[cyan]{plain(name)}[/] {plain(text)}", highlight=False, soft_wrap=True)
