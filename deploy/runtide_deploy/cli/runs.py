"""``runtide runs`` and ``runtide show``: what the state store knows."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.entities import ENTITY_HELP, resolve_entity
from runtide_deploy.cli.formatting import (
    duration,
    new_console,
    number,
    plain,
    print_moment,
    print_pairs,
    size,
    status_text,
    when,
)
from runtide_deploy.cli.moments import AT, moment
from runtide_deploy.cli.showing import SHOW
from runtide_schemas.errors import NotFound

GATEWAY = typer.Option("", "--gateway", help="URL of the gateway; default: the running stack's.")
AS_JSON = typer.Option(False, "--json", help="Print JSON instead of tables.")
_SHOWN_METRICS = 4


def runs(
    experiment: str = typer.Option("", "--experiment", "-e", help="Only runs of this experiment (name or id)."),
    where: str = typer.Option("", "--filter", "-f", help="Such as: metrics.loss < 0.1 AND params.model = 'mlp'"),
    order_by: str = typer.Option("", "--order-by", "-o", help="Such as: metrics.accuracy DESC"),
    limit: int = typer.Option(20, "--limit", "-n", min=1, max=1000, help="Most runs to list."),
    at: str = AT,
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """List runs, the newest first, with their last metrics; with --at as they were, filter and order included."""
    wanted: dict[str, str | int] = {
        "experiment": experiment,
        "filter": where,
        "order_by": order_by,
        "page_size": limit,
        "at": moment(at),
    }
    found = api.get(gateway, "/runs", wanted)
    if as_json:
        typer.echo(json.dumps(found["runs"], indent=2))
        return
    console = new_console()
    console.print(runs_table(found["runs"]))
    print_moment(console, found)
    if found.get("next_page_token"):
        console.print(f"[dim]More than {limit}: raise --limit, or narrow with --experiment and --filter.[/]")


def show(
    entity: str = typer.Argument(help=ENTITY_HELP),
    at: str = AT,
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Show everything about a run (params, metrics, artifacts, writers, whether it is all here), or an experiment, a
    registered model or an endpoint; with --at as it was.

    Which version was @champion on Tuesday? `runtide show model/digits --at 'tuesday 12:00'`. Who moved it, and why?
    `runtide log model/digits`.
    """
    then = moment(at)
    found = resolve_entity(entity, gateway, then)
    detail = _detail(found.kind, found.name, found.path, then, gateway)
    if as_json:
        typer.echo(json.dumps(detail, indent=2))
        return
    console = new_console()
    if found.kind == "run":
        _print_run(console, detail, detail.get("completeness"))
    else:
        SHOW[found.kind](console, detail)
    print_moment(console, detail)


def _detail(kind: str, name: str, path: str, at: str, gateway: str) -> dict[str, Any]:
    if kind == "endpoint":
        found = api.get(gateway, "/endpoints", {"at": at})
        for one in found["endpoints"]:
            if one["endpoint"] == name:
                return {**one, **({"as_of": found["as_of"]} if at else {})}
        raise NotFound(
            f"No endpoint {name!r} is wanted{' then' if at else ''}. `runtide log endpoint/{name}` has its past."
        )
    detail: dict[str, Any] = api.get(gateway, path, {"at": at})
    if kind == "run" and not at:
        detail["completeness"] = api.get(gateway, f"{path}/completeness")
    return detail


def runs_table(found: list[dict[str, Any]]) -> Table:
    """Return a table of runs as the gateway gives them."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("run", "name", "experiment", "status", "started", "took", "metrics"):
        table.add_column(column, no_wrap=column in {"run", "status"})
    for run in found:
        info = run["info"]
        table.add_row(
            info["run_id"][:12],
            plain(info["name"] or "-"),
            plain(info["experiment_name"] or info["experiment_id"] or "-"),
            status_text(info["status"]),
            when(info["start_time"]),
            duration(info["start_time"], info["end_time"]),
            _metrics_text(run["metrics"]),
        )
    return table


def _metrics_text(metrics: dict[str, Any]) -> str:
    shown = [f"{plain(key)}={number(metric['last_value'])}" for key, metric in sorted(metrics.items())[:_SHOWN_METRICS]]
    more = len(metrics) - len(shown)
    return "  ".join(shown) + (f"  +{more}" if more > 0 else "")


def _print_run(console: Console, detail: dict[str, Any], completeness: dict[str, Any] | None) -> None:
    run, info = detail["run"], detail["run"]["info"]
    if detail["receipt"]:
        _print_receipt(console, info, detail["receipt"])
        return
    title, why = plain(info["name"] or info["run_id"]), plain(info["end_reason"] or "")
    console.print(f"[bold]{title}[/]", status_text(info["status"]), why)
    if deletion := detail.get("deletion"):
        console.print(f"[yellow]{plain(deletion)}[/]", highlight=False)
    if info["status"] == "LOST":
        console.print(f"silent since {when(info['silent_since'])}", highlight=False)
    print_pairs(console, _facts(info, completeness))
    if run["params"]:
        console.print("\n[bold]params[/]")
        print_pairs(console, run["params"])
    if run["metrics"]:
        console.print("\n[bold]metrics[/]")
        console.print(_metrics_table(run["metrics"]))
    if run["tags"]:
        console.print("\n[bold]tags[/]")
        print_pairs(console, run["tags"])
    if detail["artifacts"]:
        console.print("\n[bold]artifacts[/]")
        print_pairs(
            console, {item["path"]: f"{size(item['size'])}  {item['content_type']}" for item in detail["artifacts"]}
        )
    _print_beside(console, detail)
    for version in detail["model_versions"]:
        console.print(f"\nregistered as [bold]{plain(version['name'])}[/] version {version['version']}")
    if detail["param_conflicts"]:
        console.print("\n[bold yellow]params logged again with another value (the first one counts)[/]")
        print_pairs(console, {item["key"]: item["value"] for item in detail["param_conflicts"]})


def _print_beside(console: Console, detail: dict[str, Any]) -> None:
    """Print what a run used, made, and was written by."""
    beside = {
        "datasets": {f"{one['name']}@{one['digest']}": one["source"] for one in detail["inputs"]},
        "models": {one["model_id"]: f"{one['name']}  {one['status']}" for one in detail["logged_models"]},
        "writers": {one["writer_id"][:8]: _writer(one) for one in detail["writers"]},
    }
    for title, pairs in beside.items():
        if pairs:
            console.print(f"\n[bold]{title}[/]")
            print_pairs(console, pairs)


def _writer(one: dict[str, Any]) -> str:
    rank = "" if one["rank"] is None else f"rank {one['rank']}"
    process = f"process {one['pid']} on {one['host']}" if one["host"] else ""
    opened = f"opened {when(one['opened_at'])}" if one["opened_at"] else ""
    closed = f"closed {when(one['closed_at'])} ({one['close_reason']})" if one["closed_at"] else "not closed"
    return ", ".join(filter(None, (rank, process, one["client"], opened, closed)))


def _print_receipt(console: Console, info: dict[str, Any], receipt: dict[str, Any]) -> None:
    title = plain(info["name"] or info["run_id"])
    console.print(f"[bold]{title}[/] was purged; this is its receipt", highlight=False)
    had = ("points", "metrics", "params", "tags", "inputs", "artifacts", "models")
    late = receipt["points_seen"] - receipt["points"], receipt["late_events"]
    facts = {
        "run": info["run_id"],
        "experiment": info["experiment_name"] or info["experiment_id"],
        "started": when(info["start_time"]),
        "deleted": f"{when(receipt['deleted_at'])} by {receipt['deleted_by'] or '-'}",
        "purged": f"{when(receipt['purged_at'])} by {receipt['purged_by'] or '-'} {receipt['reason']}",
        "had": ", ".join(f"{receipt[name]:,} {name}" for name in had if receipt[name]),
        "checksum": receipt["checksum"],
        "came since": f"{late[0]:,} points, {late[1]:,} events" if any(late) else "",
        "removed": f"{receipt['files_removed']:,} files, {size(receipt['bytes_removed'])}" + _of_models(receipt),
    }
    print_pairs(console, {key: value for key, value in facts.items() if value})


def _of_models(receipt: dict[str, Any]) -> str:
    if not receipt["model_folders"]:
        return ""
    return f", with {receipt['model_folders_removed']:,} of {receipt['model_folders']:,} folders of logged models"


def _facts(info: dict[str, Any], completeness: dict[str, Any] | None) -> dict[str, str]:
    facts = {
        "run": info["run_id"],
        "experiment": info["experiment_name"] or info["experiment_id"],
        "started": f"{when(info['start_time'])}, took {duration(info['start_time'], info['end_time'])}",
        "by": info["user_id"] or "",
        "source": " ".join(filter(None, (info["source_name"], info["source_version"]))),
        "parent": info["parent_run_id"] or "",
        "complete?": f"{completeness['state']}: {completeness['summary']}" if completeness else "",
    }
    return {key: value for key, value in facts.items() if value}


def _metrics_table(metrics: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for column in ("", "last", "at step", "min", "max", "points"):
        table.add_column(column, justify="left" if not column else "right")
    for key, metric in sorted(metrics.items()):
        values = (
            number(metric["last_value"]),
            str(metric["last_step"]),
            number(metric["min_value"]),
            number(metric["max_value"]),
        )
        table.add_row(f"[cyan]{plain(key)}[/]", *values, f"{metric['point_count']:,}")
    return table
