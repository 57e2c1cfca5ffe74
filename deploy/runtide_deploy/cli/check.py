"""``runtide check``: is a run all here?"""

import json
from typing import Any

import typer
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.entities import resolve_run
from runtide_deploy.cli.formatting import new_console, plain, when
from runtide_deploy.cli.runs import AS_JSON, GATEWAY

EXIT_CODES = {"complete": 0, "open": 5, "missing": 6}
_STYLES = {"complete": "green", "open": "yellow", "missing": "bold red"}


def check(
    run: str = typer.Argument(help="Run id, or the beginning of one."),
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Say whether everything of a run is here: complete, open, or exactly what is missing and since when.

    Each process that writes to a run numbers its events, so a lost one is known by its number. Events that are here and
    could not be applied (`runtide quarantine`) are missing, too. Complete means that both stores, PostgreSQL and
    DuckDB, have all of it. A writer that went on after the end that it stated leaves the run open. Exit status: 0 complete,
    5 open (nothing is missing, more may come), 6 something is missing.
    """
    found = api.get(gateway, f"/runs/{resolve_run(run, gateway)}/completeness")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        console = new_console()
        console.print(f"[{_STYLES[found['state']]}]{found['state']}[/]: {plain(found['summary'])}", highlight=False)
        if deletion := found.get("deletion"):
            console.print(f"[yellow]{plain(deletion)}[/]", highlight=False)
        console.print(writers_table(found["sequences"]))
    raise typer.Exit(EXIT_CODES[found["state"]])


def writers_table(sequences: list[dict[str, Any]]) -> Table:
    """Return what has arrived of each writer, by topic."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("writer", "rank", "host", "topic", "received", "of", "missing", "since", "closed"):
        table.add_column(column, justify="right" if column in {"received", "of", "rank"} else "left")
    for one in sequences:
        table.add_row(
            plain(one["writer_id"][:8]),
            "" if one["rank"] is None else str(one["rank"]),
            plain(one["host"] or ""),
            one["topic"].removeprefix("runtide."),
            f"{one['received']:,}",
            "?" if one["final_count"] is None else f"{one['final_count']:,}",
            ", ".join(f"{gap['first']}-{gap['last']}" for gap in one["missing"]),
            _since(one),
            plain(one["close_reason"] or "-"),
        )
    return table


def _since(sequence: dict[str, Any]) -> str:
    """Since when something is missing; of an open writer, since when nothing more has come."""
    if known := [gap["since"] for gap in sequence["missing"] if gap["since"] is not None]:
        return when(min(known))
    return when(sequence["heard_at"]) if sequence["state"] == "open" else "-"
