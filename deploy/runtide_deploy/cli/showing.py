"""How an experiment, a registered model or an endpoint is printed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from runtide_deploy.cli.formatting import plain, print_pairs, when


def show_experiment(console: Console, detail: dict[str, Any]) -> None:
    """Print an experiment."""
    about = detail["experiment"]
    _title(console, about["name"], "" if about["lifecycle_stage"] == "active" else about["lifecycle_stage"])
    _print_said(
        console,
        {
            "experiment": about["experiment_id"],
            "created": when(about["created_at"]),
            "updated": when(about["updated_at"]),
            "artifacts": about["artifact_location"],
        },
    )
    _print_tags(console, detail["tags"])


def show_model(console: Console, detail: dict[str, Any]) -> None:
    """Print a registered model with its versions and aliases."""
    about = detail["model"]
    _title(console, about["name"], about["description"] or "")
    _print_said(console, {"created": when(about["created_at"]), "updated": when(about["updated_at"])})
    _print_tags(console, detail["tags"])
    aliases: dict[int, list[str]] = {}
    for alias, version in about["aliases"].items():
        aliases.setdefault(version, []).append(f"@{alias}")
    columns = ("version", "aliases", "stage", "registered", "source", "tags")
    rows = [
        (
            str(one["version"]),
            " ".join(sorted(aliases.get(one["version"], []))),
            "" if one["stage"] == "None" else one["stage"],
            when(one["created_at"]),
            one["source"],
            ", ".join(f"{key}={value}" for key, value in one["tags"].items()),
        )
        for one in detail["versions"]
    ]
    _print_table(console, columns, rows)


def show_endpoint(console: Console, detail: dict[str, Any]) -> None:
    """Print what is wanted at an endpoint, and its deployments."""
    _title(console, detail["endpoint"], "")
    follow = {"alias": f"@{detail['alias']}", "version": f"version {detail['version']}"}
    _print_said(
        console,
        {
            "serves": f"{detail['model']} {follow.get(detail['follow'], detail['follow'])}",
            "target": detail["target"],
            "asked for": when(detail["requested_at"]),
            **detail["config"],
        },
    )
    columns = ("version", "state", "since", "url", "reason")
    rows = [
        (str(one["version"]), one["state"], when(one["updated_at"]), one["url"] or "", one["reason"] or "")
        for one in detail["deployments"]
    ]
    _print_table(console, columns, rows)


SHOW: Mapping[str, Callable[[Console, dict[str, Any]], None]] = {
    "experiment": show_experiment,
    "model": show_model,
    "endpoint": show_endpoint,
}


def _title(console: Console, name: str, more: str) -> None:
    console.print(f"[bold]{plain(name)}[/]", plain(more))


def _print_said(console: Console, pairs: Mapping[str, Any]) -> None:
    print_pairs(console, {key: value for key, value in pairs.items() if value not in ("", None, "-")})


def _print_tags(console: Console, tags: Mapping[str, str]) -> None:
    if tags:
        console.print("\n[bold]tags[/]")
        print_pairs(console, tags)


def _print_table(console: Console, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(plain, row))
    console.print()
    console.print(table)
