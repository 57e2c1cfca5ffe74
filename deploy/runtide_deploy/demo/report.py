"""What the demo prints at its end: the comparison, the state, the events of one run."""

from typing import Any

from rich.console import Console
from rich.table import Table

from runtide_deploy.cli.formatting import number
from runtide_deploy.cli.log import events_table
from runtide_deploy.cli.runs import runs_table

_COMPARED = ("val_accuracy", "val_loss", "loss", "test_accuracy")


def print_report(
    console: Console,
    comparison: dict[str, Any],
    runs: list[dict[str, Any]],
    endpoints: list[dict[str, Any]],
    events: list[dict[str, Any]],
) -> None:
    """Print everything that there is to see after the job."""
    console.rule("[bold]The three runs compared (DuckDB)", align="left")
    console.print(_comparison_table(comparison, runs))
    console.rule("[bold]The state (PostgreSQL)", align="left")
    console.print(runs_table(runs))
    console.print(_endpoints_table(endpoints))
    console.rule(f"[bold]The events of run {runs[0]['info']['name']} (the log)", align="left")
    console.print(events_table(events, console.width))


def _comparison_table(comparison: dict[str, Any], runs: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2))
    table.add_column("")
    for run in runs:
        table.add_column(run["info"]["name"], justify="right")
    run_ids = [run["info"]["run_id"] for run in runs]
    for key in _COMPARED:
        by_run = comparison["metrics"].get(key, {})
        best = "min_value" if key.endswith("loss") else "max_value"
        for label, field in (("last", "last_value"), ("best", best), ("points", "point_count")):
            values = (number(by_run.get(run_id, {}).get(field)) for run_id in run_ids)
            table.add_row(f"[cyan]{key}[/] {label}", *values)
    return table


def _endpoints_table(endpoints: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2))
    for column in ("endpoint", "model", "follows", "version", "state", "url"):
        table.add_column(column)
    for endpoint in endpoints:
        deployment = endpoint["deployments"][0]  # the newest
        cells = (endpoint["endpoint"], endpoint["model"], endpoint["follow"], str(deployment["version"]))
        table.add_row(*cells, deployment["state"], deployment["url"] or "-")
    return table
