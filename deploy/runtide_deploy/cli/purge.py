"""``runtide delete`` and ``runtide purge``: hiding runs, and giving deleted ones up for good."""

import asyncio
import getpass
import socket
import time
from pathlib import Path

import typer

from runtide.connection import Connection
from runtide_deploy.cli import gateway as api
from runtide_deploy.cli.archive import bound_ms
from runtide_deploy.cli.entities import resolve_run
from runtide_deploy.cli.extras import require_extra
from runtide_deploy.cli.formatting import new_console, size, when
from runtide_deploy.cli.runs import GATEWAY
from runtide_schemas.errors import InvalidRequest, TransientError

DATA = typer.Option(None, help="The stack's directory; default: RUNTIDE_DATA, or ~/.local/share/runtide.")
APPLIED_S = 10.0
"""How long a command waits until what it has told is to be seen."""
_POLL_S = 0.05
BROKER = typer.Option(None, help="host:port of the log; default: the running stack's, or RUNTIDE_BROKER.")


def delete(
    runs: list[str] = typer.Argument(help="Run ids, or the beginning of one."),
    undo: bool = typer.Option(False, "--undo", help="Restore deleted runs instead."),
    data: Path = DATA,
    broker: str = BROKER,
    gateway: str = GATEWAY,
) -> None:
    """Hide runs; they can be restored (--undo) until they are purged.

    Who has a run's id still sees it. Returns once lists and searches do without it, or show it again.
    """
    gateway = api.gateway_url(gateway, data)
    ids = [resolve_run(run, gateway) for run in runs]
    for run_id in ids:
        check_not_purged(run_id, api.get(gateway, f"/runs/{run_id}"))
    asyncio.run(_tell(_address(broker, data), ids, undo))
    for run_id in ids:
        _wait_until(gateway, run_id, "active" if undo else "deleted")
        typer.echo(f"{'restored' if undo else 'deleted'} {run_id}")


def purge(
    runs: list[str] = typer.Argument(None, help="Deleted runs; default: all that were deleted long enough ago."),
    older_than: str = typer.Option(
        None, help="Deleted at least so long ago: 30d, 12h, 0m. Default: 30d, and 0m for runs that are named."
    ),
    reason: str = typer.Option("", "--reason", "-m", help="Why; kept in the receipt."),
    data: Path = DATA,
    broker: str = BROKER,
    artifacts: str = typer.Option(
        None, help="What the stack's artifacts are kept below; files are removed there only. Default: the stack's own."
    ),
    postgres_dsn: str = typer.Option(
        None, help="PostgreSQL of a stack that was told to use one; default: RUNTIDE_POSTGRES_DSN, or its own."
    ),
    gateway: str = GATEWAY,
) -> None:
    """Give deleted runs up for good: params, points and files go, a receipt stays. There is no way back.

    A run that a registered model version came from is kept. The events stay in the log until its retention takes them.
    """
    require_extra("server", "purge")
    from runtide.kafka_settings import read_kafka_settings
    from runtide_consumers.purge.job import PurgeOrder
    from runtide_consumers.purge.job import purge as run_purge
    from runtide_deploy.standalone.data_directory import DataDirectory
    from runtide_deploy.standalone.rebuildable import state_dsn

    connection = Connection.resolve(broker=broker, data=data, artifacts=artifacts)
    named = [resolve_run(run, api.gateway_url(gateway, data)) for run in runs or ()]
    before = bound_ms(None, older_than or ("0m" if named else "30d"), now_s=time.time() + 1)
    assert before is not None  # noqa: S101 - an age was given
    order = PurgeOrder(
        before_ms=before,
        runs=named or None,
        reason=reason,
        actor=_who(),
        artifacts=connection.artifacts,
    )
    kafka = read_kafka_settings(bootstrap=_address(broker, data))
    done = asyncio.run(run_purge(state_dsn(DataDirectory(connection.data), postgres_dsn), kafka, order))
    new_console().print(
        f"purged {len(done.runs):,} runs; removed {done.files:,} files ({size(done.bytes)})", highlight=False
    )


def check_not_purged(run_id: str, detail: dict[str, object]) -> None:
    """Refuse a run that was purged: there is nothing to delete or restore.

    Raises:
        InvalidRequest: it was; the message has its receipt.
    """
    receipt = detail["receipt"]
    if isinstance(receipt, dict):
        why = f" ({receipt['reason']})" if receipt["reason"] else ""
        raise InvalidRequest(
            f"Run {run_id} was purged at {when(receipt['purged_at'])} by {receipt['purged_by'] or 'somebody'}{why}, "
            f"with {receipt['points']:,} points, {receipt['params']:,} params and {receipt['artifacts']:,} files: it cannot "
            "be brought back"
        )


def _wait_until(gateway: str, run_id: str, stage: str) -> None:
    deadline = time.monotonic() + APPLIED_S
    while api.get(gateway, f"/runs/{run_id}")["run"]["info"]["lifecycle_stage"] not in {stage, "purged"}:
        if time.monotonic() >= deadline:
            raise TransientError(
                f"The log has it that run {run_id} is {stage}, and the state store has not read so within {APPLIED_S:g} s: it "
                "will once its projector runs; /ready says how far behind it is"
            )
        time.sleep(_POLL_S)


async def _tell(address: str, runs: list[str], undo: bool) -> None:
    from runtide.direct import DirectPublisher
    from runtide.kafka_settings import read_kafka_settings
    from runtide_schemas.events.runs import RunDeleted, RunRestored
    from runtide_schemas.identity import now_ms

    kind = RunRestored if undo else RunDeleted
    async with DirectPublisher(read_kafka_settings(bootstrap=address), service="cli") as publisher:
        for run_id in runs:
            await publisher.publish(kind(run_id=run_id, at=now_ms()), actor=_who())


def _address(broker: str | None, data: Path | None) -> str:
    address = Connection.resolve(broker=broker, data=data).broker
    if not address:
        raise InvalidRequest(
            "No broker is known. Start the stack with `runtide up`, or name the log with --broker host:port."
        )
    return address


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
