"""A training process that logs as it is told, and its spool synced and copied, as it is, by tests."""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from runtide.kafka import KafkaSettings
from runtide.spool import manifest
from runtide.spool.owner_state import read_state
from runtide.sync import SpoolReport, find_spools, sync
from runtide_schemas.events.runs import RunEnded, WriterClosed
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import Logged, assert_complete, bodies, child, deduplicated, finished, points_of

TRAINER = """
import sys
import runtide
from runtide.spool import durability, owner_state
durability.SETTLE_EVERY_S = owner_state._EVERY_S = 0.05
run = runtide.start_run("victim")
print(run.run_id, flush=True)
step = 0
for line in sys.stdin:
    for step in range(step + 1, step + 1 + int(line)):
        run.log_metric("loss", step * 0.5, step=step)
    run.log_param(f"p{step}", step)
    print(step, flush=True)
"""


PATIENCE_S = 60.0
"""Seconds that tests wait for a state that must come; how long it takes is no matter."""


class Trainer:
    """A process that logs as it is told: points with numbers from 1 on, and a param after each lot."""

    def __init__(self, spool: Path, broker: str = "", within: Sequence[str] = ()) -> None:
        """Start one; ``broker`` "" is offline, ``within`` a command that runs it."""
        limit = {"RUNTIDE_EXIT_DEADLINE": "60"}
        self._process = child(TRAINER, broker=broker, spool=spool, variables=limit, steered=True, within=within)
        self._lots = 0
        self.points = 0
        self.run_id = self._said()
        self.directory = spool / self.run_id
        (self._spool,) = find_spools([self.directory])
        wait_until(lambda: read_state(self._spool).delivery != "unknown", PATIENCE_S)

    def log(self, points: int) -> None:
        """Have it log a lot; return at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{points}\n")
        self._process.stdin.flush()
        self._lots += 1
        self.points += points

    def wait(self) -> None:
        """Return when all calls have returned."""
        while self._lots:
            self._said()
            self._lots -= 1

    def durable(self, beyond: int) -> int:
        """Return how many of its events it calls durable, once these are more than ``beyond``."""
        wait_until(lambda: self._durable > beyond, PATIENCE_S)
        return self._durable

    def end(self) -> None:
        """Have it end its run and the process."""
        self.wait()
        code, _, errors = finished(self._process)
        assert code == 0, errors

    def kill(self) -> None:
        """End it by kill -9."""
        self.wait()
        self._process.kill()
        self._process.wait()  # before its input ends, which a process of a container would take for the end
        finished(self._process)
        wait_until(self._has_let_go, PATIENCE_S)  # what runs in a container dies after the command that we killed

    @property
    def _durable(self) -> int:
        return sum(read_state(self._spool).durable.values())

    def _has_let_go(self) -> bool:
        if (lock := manifest.lock(self._spool)) is None:
            return False
        os.close(lock)
        return True

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, finished(self._process)
        return line


def sync_one(directory: Path, broker: BrokerProcess, *, ended: bool = False) -> SpoolReport:
    """Sync a directory that holds one spool."""
    (report,) = sync([directory], KafkaSettings(bootstrap=broker.address), ended=ended).spools
    return report


def copied(trainer: Trainer, copy: Path, *, elsewhere: bool = True) -> Path:
    """Copy a run's spool file by file as it is, over an earlier copy; it looks like one of another machine."""
    (source,) = find_spools([trainer.directory])
    target = copy / source.parent.name / source.name
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            shutil.copy2(path, target / path.name)
    fields = json.loads((source / "writer.json").read_text())
    fields |= {"host": "node7", "boot_id": "of node7"} if elsewhere else {}
    (target / "writer.json").write_text(json.dumps(fields))
    return target


def check(log: list[Logged], points: int, ends: list[str], reasons: list[str]) -> None:
    """Hold what readers see against what was logged: all points, in order, once, and one end."""
    seen = deduplicated(log)
    assert_complete(seen)
    assert points_of(seen, "loss") == [(step, step * 0.5) for step in range(1, points + 1)]
    assert [body.status for body in bodies(seen, RunEnded)] == ends
    assert [body.reason for body in bodies(seen, WriterClosed)] == reasons


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a spool, but those of its followers."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "followed"}
