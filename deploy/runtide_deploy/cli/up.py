"""``runtide up``: the whole stack on this machine."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from runtide_deploy.cli.extras import require_extra
from runtide_schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from runtide_deploy.standalone.services import ServiceEvent
    from runtide_deploy.standalone.settings import StandaloneSettings
    from runtide_deploy.standalone.stack import Stack

_COLORS = {"ready": "green", "failed": "bold red", "backing off": "yellow"}


def up(
    data: Path = typer.Option(None, help="Directory that holds everything; default ~/.local/share/runtide."),
    broker_port: int = typer.Option(
        None, help="Port of the broker (default 9092; 0 = any free one); of three, the others follow."
    ),
    postgres_port: int = typer.Option(None, help="Port of PostgreSQL (default 5433; 0 = any free one)."),
    gateway_port: int = typer.Option(None, help="Port of the gateway (default 5050; 0 = any free one)."),
    kafka: str = typer.Option(
        None,
        help="Apache Kafka to use: host:port of a running one, 'java' to run one here, or 'java:3' to run a cluster "
        "of three (both need Java 17 and Maven).",
    ),
    postgres_dsn: str = typer.Option(None, help="DSN of a PostgreSQL to use instead of an own one."),
    project: str = typer.Option(
        None, help="Projections of your own to run beside ours, comma-separated; `runtide project --list` names them."
    ),
) -> None:
    """Run the whole stack: broker, PostgreSQL, registrar, projections, deployer and gateway.

    Keeps running until Ctrl-C; what it holds survives a restart. Everything listens on this machine only.
    """
    require_extra("server", "up")
    given = {
        "data": data,
        "broker_port": broker_port,
        "postgres_port": postgres_port,
        "gateway_port": gateway_port,
        "kafka": kafka,
        "postgres_dsn": postgres_dsn,
        "project": project,
    }
    asyncio.run(_serve(standalone_settings(given), Console(stderr=True)))


def standalone_settings(given: dict[str, Any]) -> "StandaloneSettings":
    """Return the settings of the stack: what is given, else the environment, else the defaults.

    Raises:
        InvalidRequest: a value makes no sense; every such value is named.
    """
    from pydantic import ValidationError

    from runtide_deploy.standalone.settings import StandaloneSettings

    try:
        return StandaloneSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"{' '.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InvalidRequest(f"Settings of the stack that make no sense: {wrong}") from error


async def _serve(settings: "StandaloneSettings", console: Console) -> None:
    from runtide_deploy.standalone.stack import running

    console.print(f"Starting Runtide in [bold]{settings.data}[/] ...", highlight=False)
    async with running(settings, lambda event: print_event(console, event)) as stack:
        if stack is not None:
            console.print("\n[bold green]Runtide is up.[/] Ctrl-C stops it.\n")
            print_addresses(console, stack)
            await stack.wait()
        console.print("Stopping ...")
    console.print("Stopped. What it held is kept for the next start.")


def print_event(console: Console, event: "ServiceEvent") -> None:
    """Print a service's change of state, when it says something to a person."""
    if event.state in {"starting", "stopping", "stopped", "waiting"}:
        return
    color = _COLORS.get(event.state, "default")
    console.print(f"  {event.name:<20} [{color}]{event.state}[/] {event.text}", highlight=False)


def print_addresses(console: Console, stack: "Stack") -> None:
    """Print where everything listens and where data is kept."""
    for name, address in stack.addresses().items():
        console.print(f"  [bold]{name:<12}[/] {address}", highlight=False, soft_wrap=True)
