"""``runtide log``: the events of a run, as they lie in the log."""

import json
from itertools import groupby
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.formatting import new_console
from runtide_deploy.cli.runs import AS_JSON, GATEWAY, resolve_run

_COLUMNS = ("time", "event", "writer", "seq", "where")
_LEAST_WHAT = 20


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
    console.print(events_table(found["events"], console.width))
    if found["truncated"]:
        console.print(f"[yellow]Only the first {len(found['events']):,} events are shown.[/]")


def events_table(events: list[dict[str, Any]], width: int) -> Table:
    """Return a table of events as the gateway gives them; a row of metric events of one writer takes one line.

    ``width``: characters that there are. Only the last column gives way: Rich would drop whole columns instead.
    """
    rows = [_row(list(alike)) for _, alike in groupby(events, key=_together)]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (*_COLUMNS, "what"):
        table.add_column(column, no_wrap=True, justify="right" if column == "seq" else "left")
    widest = [max(len(text) for text in texts) for texts in zip(_COLUMNS, *(row[:-1] for row in rows), strict=True)]
    room = max(_LEAST_WHAT, width - sum(widest) - 2 * len(widest))
    for *place, what in rows:
        table.add_row(*place, escape(what if len(what) <= room else what[: room - 1] + "…"))
    return table


def _together(event: dict[str, Any]) -> tuple[str, ...]:
    """Return what neighbours on one line have in common: metric events their writer and partition, others nothing."""
    envelope, origin = event["envelope"], event["origin"]
    if envelope["type"] == "MetricsLogged":
        return (envelope["writer"], str(origin["partition"]))
    return (envelope["id"],)


def _row(alike: list[dict[str, Any]]) -> tuple[str, ...]:
    first, last = alike[0], alike[-1]
    envelope, origin = first["envelope"], first["origin"]
    return (
        envelope["time"],
        envelope["type"] if len(alike) == 1 else f"{envelope['type']} x {len(alike)}",
        envelope["writer"][:8],
        _span(envelope["seq"], last["envelope"]["seq"]),
        f"{origin['topic'].removeprefix('runtide.')}-{origin['partition']}@{_span(origin['offset'], last['origin']['offset'])}",
        _what(alike),
    )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}..{last}"


def _what(alike: list[dict[str, Any]]) -> str:
    first = alike[0]
    if first["body"] is None:
        return f"cannot be decoded: {first.get('problem', '')}"
    if first["envelope"]["type"] == "MetricsLogged":
        keys = sorted({key for event in alike for key in event["body"]["keys"]})
        return f"{sum(event['body']['points'] for event in alike):,} points of {', '.join(keys)}"
    told = {key: value for key, value in first["body"].items() if key != "run_id" and value not in ("", None, {}, [])}
    return "  ".join(f"{key}={_brief(value)}" for key, value in told.items())


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    return ", ".join(map(_brief, value)) if isinstance(value, list) else str(value)
