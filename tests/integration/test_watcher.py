"""A trainer that is stopped, goes on, is killed: what the watcher states of it in a real log, and what everybody is told."""

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_deploy.cli.main import app
from runtide_schemas.events.liveness import WriterAlive
from tests.integration.gateway_stack import GatewayStack, running_gateway_stack, wait_until
from tests.integration.sdk_log import bodies, child, read_log
from tests.integration.service_processes import Service, started, with_topics
from tests.postgres import PostgresServer

LONG_S = 120.0
TRAINER = """
import sys, runtide
run = runtide.start_run()
run.log_params({"a": 1})
assert run.flush()
print(run.run_id, flush=True)
sys.stdin.readline()
runtide.end_run()
"""


def _topics_only(bootstrap: str) -> KafkaSettings:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, with_topics(bootstrap)).result()


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    folder = tmp_path_factory.mktemp("watched")
    with postgres_server.database() as dsn, running_gateway_stack(folder, dsn, _topics_only) as stack:
        watcher = Service(folder, "watcher", "runtide_consumers.watcher", bootstrap=stack.kafka.bootstrap)
        with started(watcher):
            watcher.ready()
            yield stack


@contextmanager
def trainer(stack: GatewayStack, spool: Path, lease: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process with a run that has nothing to log, and its run id."""
    variables = {"RUNTIDE_LEASE": lease}
    process = child(TRAINER, broker=stack.kafka.bootstrap, spool=spool, variables=variables, steered=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def told(stack: GatewayStack, *arguments: str) -> Any:
    """Run a command of the command line and return its JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json", "--gateway", stack.gateway.url])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.output)


def in_postgres(stack: GatewayStack, run_id: str) -> str | None:
    """Return a run's status by the state store itself."""

    async def read() -> str | None:
        connection = await asyncpg.connect(stack.dsn, server_settings={"search_path": "runtide"})
        try:
            found: str | None = await connection.fetchval("select status from runs where run_id = $1", run_id)
        finally:
            await connection.close()
        return found

    return asyncio.run(read())


def facts(stack: GatewayStack, run_id: str) -> list[dict[str, Any]]:
    """Return what the run's history says of losses."""
    events = told(stack, "log", run_id)["events"]
    return [event for event in events if event["type"] in ("RunLost", "RunRecovered")]


def becomes(stack: GatewayStack, run_id: str, status: str) -> None:
    """Wait until the state store says so."""
    wait_until(lambda: in_postgres(stack, run_id) == status, f"{run_id} to be {status}", LONG_S)


def is_complete(stack: GatewayStack, run_id: str) -> None:
    """Wait until a run's writers are: the watcher, which wrote of it too, has nothing to close."""
    wait_until(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", "all of it", LONG_S)


@pytest.mark.gate
def test_a_stopped_trainer_is_lost_and_comes_back_by_itself(stack: GatewayStack, tmp_path: Path) -> None:
    with trainer(stack, tmp_path, "10") as (process, run_id):
        wait_until(lambda: in_postgres(stack, run_id) is not None, "the run is there", LONG_S)
        process.send_signal(signal.SIGSTOP)
        becomes(stack, run_id, "LOST")
        info = stack.get(f"/runs/{run_id}")["run"]["info"]
        assert info["status"] == told(stack, "show", run_id)["run"]["info"]["status"] == "LOST"
        assert [run["info"]["run_id"] for run in told(stack, "runs", "--filter", "status = 'LOST'")] == [run_id]
        process.send_signal(signal.SIGCONT)
        becomes(stack, run_id, "RUNNING")
        assert told(stack, "show", run_id)["run"]["info"]["status"] == "RUNNING"
        _, errors = process.communicate("\n", timeout=LONG_S)
        assert process.returncode == 0, errors
    becomes(stack, run_id, "FINISHED")
    is_complete(stack, run_id)
    lost, back = facts(stack, run_id)[:2]
    assert (lost["type"], back["type"]) == ("RunLost", "RunRecovered")
    assert (lost["body"]["episode"], back["body"]["episode"]) == (1, 1)
    assert list(lost["body"]["writers"].values()) == [lost["body"]["silent_since"]] == [info["silent_since"]]
    for fact, status in ((lost, "LOST"), (back, "RUNNING")):
        place = f"{fact['topic'].removeprefix('runtide.')}-{fact['partition']}@{fact['offset']}"
        assert told(stack, "show", run_id, "--at", place)["run"]["info"]["status"] == status, "as the event left it"


@pytest.mark.slow
def test_a_killed_trainer_is_lost_until_its_spool_is_synced(stack: GatewayStack, tmp_path: Path) -> None:
    with trainer(stack, tmp_path, "2") as (process, run_id):
        process.kill()
    becomes(stack, run_id, "LOST")
    assert sync([tmp_path], stack.kafka).complete
    becomes(stack, run_id, "KILLED")
    assert facts(stack, run_id)[0]["type"] == "RunLost"
    is_complete(stack, run_id)


@pytest.mark.slow
def test_while_the_log_is_away_nobody_falls_silent(stack: GatewayStack, tmp_path: Path) -> None:
    """The log is away for longer than the lease, which is longer than clients take to come back."""
    with trainer(stack, tmp_path, "20") as (process, run_id):
        wait_until(lambda: in_postgres(stack, run_id) is not None, "the run is there", LONG_S)
        stack.broker.kill()
        time.sleep(30)
        stack.broker.start()
        _topics_only(stack.kafka.bootstrap)  # once it answers
        signs = len(bodies(read_log(stack.kafka.bootstrap), WriterAlive))

        def heard_again() -> bool:
            return len(bodies(read_log(stack.kafka.bootstrap), WriterAlive)) >= signs + 4

        wait_until(heard_again, "signs of life for longer than a lease", LONG_S)
        process.communicate("\n", timeout=LONG_S)
    becomes(stack, run_id, "FINISHED")
    assert facts(stack, run_id) == []
