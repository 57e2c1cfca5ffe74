"""``runtide log``: what happened to an entity, who did it and why; and a run's events as they lie in the log."""

import json
from itertools import groupby
from typing import Any

import typer
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.entities import ENTITY_HELP, Entity, resolve_entity
from runtide_deploy.cli.formatting import new_console, plain, when
from runtide_deploy.cli.moments import AT, moment
from runtide_deploy.cli.runs import AS_JSON, GATEWAY
from runtide_schemas.errors import InvalidRequest

_COLUMNS = ("time", "event", "writer", "seq", "where")
_HISTORY = ("time", "event", "who", "where", "what", "why")
_WHOLE = ("time", "event")
_LEAST_WHAT = 20
_PAGE = 1000
MAX_EVENTS = 10_000


def log(
    entity: str = typer.Argument(help=ENTITY_HELP),
    limit: int = typer.Option(
        100, "--limit", "-n", min=1, max=MAX_EVENTS, help="Most events to print: the latest ones."
    ),
    at: str = AT,
    metrics: bool = typer.Option(
        False, "--metrics", help="Of a run: read the log itself, from its beginning, with the events that hold metrics."
    ),
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Print what happened to a run, an experiment, a registered model or an endpoint: who did it, why, and where it lies in
    the log; the newest last.

    WHO is the person or service on whose behalf, else the writer. WHY is the event that led to it, or the request that it
    answers. WHERE can be given to --at: the state that this event left. Points of metrics are left out without --metrics.
    """
    then = moment(at)
    found = resolve_entity(entity, gateway, then)
    if metrics:
        if found.kind != "run" or then:
            raise InvalidRequest("--metrics goes with runs only, and not with --at")
        _print_from_the_log(found, as_json, gateway)
        return
    answer = _history(found, limit, then, gateway)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    console = new_console()
    console.print(history_table(answer["events"], console.width))
    if found.kind == "run" and not then and (deletion := api.get(gateway, found.path).get("deletion")):
        console.print(f"[yellow]{plain(deletion)}[/]", highlight=False)
    if answer["next_page_token"]:
        console.print(f"[dim]Only the latest {limit:,}; raise --limit, or ask for an earlier moment with --at.[/]")


def _history(entity: Entity, limit: int, at: str, gateway: str) -> dict[str, Any]:
    """Return the latest events, the newest last; pages after the first are of the first one's moment."""
    found: list[dict[str, Any]] = []
    token, page = "", {}
    while len(found) < limit and (token or not found):
        asked: dict[str, str | int] = {"page_size": min(limit - len(found), _PAGE), "page_token": token, "at": at}
        page = api.get(gateway, f"{entity.path}/history", asked)
        at = page["as_of"]["position"]
        found += page["events"]
        token = page["next_page_token"]
        if not token:
            break
    return {**page, "events": found[::-1], "next_page_token": token}


def _print_from_the_log(entity: Entity, as_json: bool, gateway: str) -> None:
    console = new_console()
    with console.status("Reading the log ..."):
        found = api.get(gateway, f"{entity.path}/events")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console.print(events_table(found["events"], console.width))
    if found["truncated"]:
        console.print(f"[yellow]Only the first {len(found['events']):,} events are shown.[/]")


def history_table(events: list[dict[str, Any]], width: int) -> Table:
    """Return a table of events as the gateway's history gives them; when and what they are is whole, however narrow it is."""
    rows = [
        (
            when(event["event_time"]),
            event["type"],
            event["actor"] or f"writer {event['writer_id'][:8]}",
            f"{event['topic'].removeprefix('runtide.')}-{event['partition']}@{event['offset']}",
            event["summary"],
            because(event["because"]),
        )
        for event in events
    ]
    table = Table(box=None, header_style="bold", pad_edge=False)
    widest = [max(len(row[at]) for row in [_HISTORY, *rows]) for at in range(len(_HISTORY))]
    for column, width_of in zip(_HISTORY, widest, strict=True):
        table.add_column(column, no_wrap=True, min_width=width_of if column in _WHOLE else None)
    room = max(2 * _LEAST_WHAT, width - sum(widest[:-2]) - 2 * len(_HISTORY))
    why = min(widest[-1], max(_LEAST_WHAT, room - widest[-2]), room // 2)
    for *place, what, led in rows:
        table.add_row(*map(plain, place), plain(_cut(what, room - why)), plain(_cut(led, why)))
    return table


def because(told: dict[str, Any] | None) -> str:
    """Return what led to an event, in a few words."""
    if told is None:
        return ""
    if told["type"]:
        who = f" by {told['actor']}" if told["actor"] else ""
        return f"{told['type']} of {told['kind']}/{told['entity']}{who}: {told['summary']}"
    asked = f" of writer {told['request_writer'][:8]}" if told["request_writer"] else ""
    return f"request {told['event_id']}{asked}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


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
        table.add_row(*map(plain, place), plain(what if len(what) <= room else what[: room - 1] + "…"))
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
