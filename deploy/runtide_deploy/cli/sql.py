"""``runtide sql``: ask DuckDB."""

import json
from typing import Any

import typer
from rich.table import Table

from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.formatting import new_console, plain
from runtide_deploy.cli.runs import AS_JSON, GATEWAY


def sql(
    statement: str = typer.Argument(help="One SELECT statement."),
    as_json: bool = AS_JSON,
    gateway: str = GATEWAY,
) -> None:
    """Run SQL over run history in DuckDB.

    Tables: runs, params, tags, metrics (run_id, key, step, timestamp, value, writer_id), metric_summaries, artifacts,
    logged_models (model_id, name, model_type, status, run_id, ...), logged_model_params, logged_model_tags, logged_model_metrics
    (model_id, run_id, key, step, timestamp, value, dataset_name, dataset_digest), run_models (what a run used and made),
    experiments, registered_models, model_versions, model_aliases, deployments, writers.

    The statement runs read-only over a snapshot, in a process of its own with bounded time, memory and rows.
    """
    console = new_console()
    with console.status("Asking DuckDB ..."):
        answer = api.post(gateway, "/sql", {"sql": statement})
    if as_json:
        typer.echo(json.dumps([dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]))
        return
    console.print(_table(answer))
    if answer.get("truncated"):
        console.print("[yellow]Only the first rows are shown; add a LIMIT or aggregate.[/]")


def _table(answer: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in answer["columns"]:
        table.add_column(plain(column), overflow="fold")
    for row in answer["rows"]:
        table.add_row(*("NULL" if cell is None else plain(cell) for cell in row))
    return table
