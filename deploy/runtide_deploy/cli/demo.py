"""``runtide demo``: the main job, end to end."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from runtide_deploy.cli.extras import require_extra
from runtide_deploy.cli.up import print_addresses, print_event, standalone_settings

if TYPE_CHECKING:
    from runtide_deploy.standalone.settings import StandaloneSettings


def demo(
    data: Path = typer.Option(Path(".demo"), help="Directory that holds the demo's stack; kept for the next time."),
    kafka: str = typer.Option(
        None,
        help="Apache Kafka to use: host:port of a running one, 'java' to run one here, or 'java:3' to run a cluster "
        "of three (both need Java 17 and Maven).",
    ),
) -> None:
    """Run the main job: stack up, train three models at once, register the best, serve it, score, compare."""
    require_extra("demo", "demo")
    given = {"data": data.absolute(), "kafka": kafka, "broker_port": 0, "postgres_port": 0, "gateway_port": 0}
    interrupted = asyncio.run(_demo(standalone_settings(given), Console()))
    if interrupted:
        raise KeyboardInterrupt


async def _demo(settings: "StandaloneSettings", console: Console) -> bool:
    """Run the demo; True when it was interrupted."""
    from runtide_deploy.demo.steps import Demo, print_done, print_title
    from runtide_deploy.standalone.stack import running

    began = time.monotonic()
    print_title(console, f"Bring the stack up in {settings.data}")
    async with running(settings, lambda event: print_event(console, event)) as stack:
        if stack is None:
            return True
        print_addresses(console, stack)
        print_done(console, began)
        job = asyncio.create_task(Demo(stack, console).run())
        stop_asked = asyncio.create_task(stack.wait())
        await asyncio.wait({job, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
        interrupted = not job.done()
        for task in (job, stop_asked):
            task.cancel()
        await asyncio.gather(stop_asked, return_exceptions=True)
        if interrupted:
            await asyncio.gather(job, return_exceptions=True)
            return True
        await job
        _print_end(console, settings, stack.plan.gateway_url)
    return False


def _print_end(console: Console, settings: "StandaloneSettings", gateway: str) -> None:
    data, kafka = settings.data, f" --kafka {settings.kafka}" if settings.kafka else ""
    console.print("\n[bold green]Everything worked.[/] To look around, start the same stack again:\n")
    console.print(
        f"  runtide up --data {data}{kafka} --broker-port 0 --postgres-port 0 --gateway-port 0\n",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"and open {gateway} in a browser; or ask it from another terminal:\n", highlight=False)
    console.print(f"  RUNTIDE_DATA={data} runtide runs", highlight=False, soft_wrap=True)
