"""``runtide import``: what was logged elsewhere, with its original times."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from runtide.connection import Connection
from runtide.importing.identity import IMPORTED
from runtide.importing.progress import Progress as Hears
from runtide_deploy.cli import gateway
from runtide_deploy.cli.formatting import new_console, size
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError
from runtide_schemas.topics import METRICS

if TYPE_CHECKING:
    from runtide.importing import ImportOptions, ImportReport

MOST_LEFT_OUT = 30

app = typer.Typer(
    help="Import runs that were logged elsewhere: every point with its own step and time.\n\n"
    "Import as often as you like: what is imported already is not imported again, and a source that has grown adds exactly "
    "what is new. Nothing is changed at the source. Without a running stack everything waits in the spool until "
    "`runtide sync`.\n\n"
    "Look first with `--dry-run`; at the end a report says what was left out, and why.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

EXPERIMENT = typer.Option("", help="Experiment for all runs; default: what the source says.")
RUN_NAME = typer.Option("", help="Name of the runs; {name} stands for the source's, e.g. 'old {name}'.")
DRY_RUN = typer.Option(False, "--dry-run", help="Read and count; publish, copy and note nothing.")
ARTIFACTS = typer.Option(True, "--artifacts/--no-artifacts", help="Copy the runs' files into the artifact store.")
BROKER = typer.Option(
    None, help="host:port of the broker; default: the running stack's, or RUNTIDE_BROKER. '' leaves all in the spool."
)


@app.command()
def tensorboard(
    source: Path = typer.Argument(help="TensorBoard's --logdir, a folder in it, or one event file."),
    experiment: str = typer.Option("", help="Experiment for all runs; default: the name of SOURCE."),
    run_name: str = RUN_NAME,
    dry_run: bool = DRY_RUN,
    artifacts: bool = ARTIFACTS,
    broker: str = BROKER,
) -> None:
    """Import TensorBoard's event files. Each folder that has some is a run; its name is its path below SOURCE.

    Scalars become metrics, none is sampled; hparams become params; texts and images become artifacts. Histograms, audio
    and graphs are left out. While the job still writes, import again for what is new. Needs the extra `tensorboard`.

        runtide import tensorboard logs/ --experiment mnist
    """
    from runtide.importing.tensorboard import import_directory

    connection, options = _prepared(experiment, run_name, dry_run, artifacts, broker)
    with Bars() as bars:
        report = import_directory(source, connection, options, bars)
    _finish(report, connection, options)


@app.command()
def mlflow(
    source: Path = typer.Argument(help="mlruns/, mlflow.db (SQLite), or the folder that has one of them."),
    experiment: str = EXPERIMENT,
    run_name: str = RUN_NAME,
    dry_run: bool = DRY_RUN,
    artifacts: bool = ARTIFACTS,
    artifact_root: list[Path] = typer.Option(
        [], help="Folder outside of SOURCE that runs' files may be read from, e.g. mlartifacts/. May be given again."
    ),
    deleted: bool = typer.Option(False, "--deleted", help="Import deleted runs and experiments, too; as deleted ones."),
    broker: str = BROKER,
) -> None:
    """Import MLflow's file store or SQLite database. MLflow need not be installed.

    Run ids, experiments' names, params, tags, notes, datasets, parents and models stay what they are. Traces and the model
    registry are left out.

        runtide import mlflow mlruns/
        runtide import mlflow mlflow.db --artifact-root mlartifacts/
    """
    from runtide.importing.mlflow import import_store

    connection, options = _prepared(experiment, run_name, dry_run, artifacts, broker)
    with Bars() as bars:
        report = import_store(source, connection, options, bars, artifact_roots=tuple(artifact_root), deleted=deleted)
    _finish(report, connection, options)


@app.command()
def wandb(
    source: Path = typer.Argument(help="wandb/, a run's folder in it, a .wandb file, or a folder of CSV or Parquet."),
    experiment: str = typer.Option("", help="Experiment for all runs; default: W&B's project."),
    run_name: str = RUN_NAME,
    dry_run: bool = DRY_RUN,
    artifacts: bool = ARTIFACTS,
    broker: str = BROKER,
) -> None:
    """Import runs of Weights & Biases: offline runs and other local logs, or exported histories.

    **Logs** (`wandb/offline-run-*/run-*.wandb`) have everything: history, system metrics, config, summary, tags, notes, files.
    They need the extra `wandb`.

    **Tables** are `run.history()` or `run.scan_history()` saved as CSV or Parquet, or `run.download_history_exports()`, with the
    columns `_step` and `_timestamp`. A folder with `config.json` or `summary.json` is one run; else each table is.

        runtide import wandb wandb/
    """
    from runtide.importing.wandb import import_export

    connection, options = _prepared(experiment, run_name, dry_run, artifacts, broker)
    with Bars() as bars:
        report = import_export(source, connection, options, bars)
    _finish(report, connection, options)


@app.command()
def neptune(
    source: Path = typer.Argument(help="The exporter's --data-path, or the folder that has data/ and files/."),
    experiment: str = typer.Option("", help="Experiment for all runs; default: Neptune's project."),
    run_name: str = RUN_NAME,
    dry_run: bool = DRY_RUN,
    artifacts: bool = ARTIFACTS,
    files: Path = typer.Option(None, help="The exporter's --files-path; default: files/ beside a folder data/."),
    step_multiplier: int = typer.Option(
        1, help="Power of ten that steps are multiplied by, where they have fractions: 1000 makes 0.125 to 125."
    ),
    broker: str = BROKER,
) -> None:
    """Import what Neptune's exporter (`neptune-exporter export`) has written: Parquet files and the runs' files.

    Series become metrics, fields params, texts and files artifacts. Histograms are left out.

        runtide import neptune exports/
    """
    from runtide.importing.neptune import import_export

    connection, options = _prepared(experiment, run_name, dry_run, artifacts, broker)
    with Bars() as bars:
        report = import_export(source, connection, options, bars, files=files, step_multiplier=step_multiplier)
    _finish(report, connection, options)


class _Rate(ProgressColumn):
    """Points per second."""

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0
        points = int(task.fields.get("points", 0))
        return Text(f"{points:,} points, {points / elapsed:,.0f}/s" if elapsed and points else "", style="dim")


class Bars(Hears):
    """Progress bars on standard error: how much is read, how fast, how long it will take; and what is sent."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._reading = self._bars.add_task("looking for runs", total=None, points=0)
        self._sending = self._bars.add_task("sending", visible=False, total=None)
        self._spools: dict[Path, tuple[int, int]] = {}
        self._points = self._runs = self._number = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def found(self, runs: int, size: int) -> None:
        """Show how many runs there are."""
        self._runs = runs
        self._bars.update(self._reading, total=max(1, size), description=f"reading {runs:,} runs")

    def reading(self, label: str) -> None:
        """Show which run is read."""
        self._number += 1
        self._bars.update(self._reading, description=f"{self._number:,}/{self._runs:,} {escape(label[-40:])}")

    def read(self, amount: int, points: int) -> None:
        """Show how much is read."""
        self._points += points
        self._bars.update(self._reading, advance=amount, points=self._points)

    def sending(self, spools: int) -> None:
        """Show that spools are sent."""
        self._spools.clear()
        self._bars.update(self._sending, visible=bool(spools), total=None, completed=0)

    def sent(self, spool: Path, events: int, total: int) -> None:
        """Show how many events the broker has."""
        self._spools[spool] = (events, total)
        done, wanted = (sum(numbers) for numbers in zip(*self._spools.values(), strict=True))
        self._bars.update(
            self._sending, completed=done, total=wanted, description=f"sending {done:,}/{wanted:,} events"
        )


def _prepared(
    experiment: str, run_name: str, dry_run: bool, artifacts: bool, broker: str | None
) -> "tuple[Connection, ImportOptions]":
    from runtide.importing import ImportOptions

    connection = Connection.resolve(broker=broker)
    options = ImportOptions(
        experiment=experiment,
        run_name=run_name,
        artifacts=artifacts,
        dry_run=dry_run,
        points_writers=partial(points_writers, connection.gateway) if connection.gateway else None,
    )
    return connection, options


def points_writers(gateway_of: str, run_id: str) -> list[str]:
    """Ask the gateway which writers of imports have points of a run.

    Raises:
        FatalError: it does not say, so that points might be written twice.
    """
    try:
        found = gateway.get(gateway_of, f"/runs/{run_id}/completeness")
    except InvalidRequest as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":  # no event of the run is there
            return []
        raise FatalError(
            f"the gateway at {gateway_of} does not say whether run {run_id} is imported: {error}. Without that its points "
            "might be there twice; set RUNTIDE_GATEWAY_TOKEN, or import where that gateway is not known"
        ) from error
    return [
        sequence["writer_id"]
        for sequence in found["sequences"]
        if sequence["topic"] == METRICS and sequence["close_reason"] == IMPORTED
    ]


def _finish(report: "ImportReport", connection: Connection, options: "ImportOptions") -> None:
    """Print the report; raise when the broker should have everything and has not."""
    console = new_console()
    done = "Would import" if options.dry_run else "Imported"
    grown = f", {len(report.grown):,} with news" if report.grown else ""
    unchanged = f"; {len(report.unchanged):,} had nothing new" if report.unchanged else ""
    files = f", {_count(report.artifacts, 'artifact')}" + (f" ({size(report.bytes)})" if report.bytes else "")
    runs, points = _count(len(report.new), "new run"), _count(report.points, "point")
    console.print(
        f"[bold]{done}[/] {runs}{grown}: {points}{files}{unchanged}.",
        highlight=False,
    )
    _print_left_out(console, report)
    if report.unsent and connection.offline:
        console.print("No broker is known, so all of it waits in the spool. Send it with:", highlight=False)
        console.print(f"  runtide sync {connection.spool}", highlight=False, soft_wrap=True)
    elif report.unsent:
        why = next(iter(report.unsent.values()))
        error = FatalError if report.refused else TransientError
        raise error(
            f"{len(report.unsent):,} spools could not be sent ({why}); they stay in {connection.spool}. Run `runtide sync` later"
        )


def _print_left_out(console: Console, report: "ImportReport") -> None:
    """Print what was left out; what is left out of many runs alike once, with their number."""
    if not report.left_out:
        return
    labels = {(part.what, part.why): label for label, part in reversed(report.left_out)}
    counts = Counter((part.what, part.why) for _, part in report.left_out)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
    for column in ("left out", "of run", "because"):
        table.add_column(column)
    for (what, why), count in list(counts.items())[:MOST_LEFT_OUT]:
        label = labels[what, why]
        cells = (what, label if count == 1 else f"{count:,} runs", why)
        table.add_row(*(escape(cell.encode(errors="backslashreplace").decode()) for cell in cells))
    console.print(table)
    if (more := len(counts) - MOST_LEFT_OUT) > 0:
        console.print(f"and {more:,} more. runtide.importing returns all of them.", highlight=False)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
