"""A trainer that is stopped, goes on, is killed: what the watcher states about it, in a real log."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide_schemas.events.runs import RunEnded, RunLost, RunRecovered
from tests.broker_process import BrokerProcess
from tests.integration.postgres_stack import eventually
from tests.integration.sdk_log import bodies, broker_with_topics, child, read_log
from tests.integration.service_processes import Service, started

TRAINER = """
import sys, runtide
run = runtide.start_run()
run.log_params({"a": 1})
assert run.flush()
print(run.run_id, flush=True)
sys.stdin.readline()
runtide.end_run()
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path / "broker") as running:
        yield running


async def stated(broker: BrokerProcess, kind: type, run_id: str, count: int) -> None:
    """Wait until so many facts of a kind are in the log."""

    async def there() -> bool:
        log = await asyncio.to_thread(read_log, broker.address)
        return len([body for body in bodies(log, kind) if body.run_id == run_id]) >= count

    await eventually(there, f"{count} {kind.__name__}")


async def test_a_stopped_trainer_is_lost_and_comes_back_by_itself(tmp_path: Path, broker: BrokerProcess) -> None:
    watcher = Service(tmp_path, "watcher", "runtide_consumers.watcher", bootstrap=broker.address)
    lease = {"RUNTIDE_LEASE": "2"}
    with started(watcher):
        watcher.ready()
        trainer = child(TRAINER, broker=broker.address, spool=tmp_path / "spool", variables=lease, steered=True)
        try:
            assert trainer.stdout is not None
            run_id = trainer.stdout.readline().strip()
            trainer.send_signal(signal.SIGSTOP)
            await stated(broker, RunLost, run_id, 1)
            trainer.send_signal(signal.SIGCONT)
            await stated(broker, RunRecovered, run_id, 1)
            _, errors = await asyncio.to_thread(trainer.communicate, "\n", 60)
            assert trainer.returncode == 0, errors
        finally:
            trainer.kill()
            trainer.wait()
    log = read_log(broker.address)
    assert len(bodies(log, RunEnded)) == 1
    lost = bodies(log, RunLost)[0]
    assert lost.episode == 1
    assert list(lost.writers.values()) == [lost.silent_since]
