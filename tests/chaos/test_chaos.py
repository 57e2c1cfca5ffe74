"""SIGKILL and SIGSTOP of everything, at random moments, under 20 writers: log, DuckDB and PostgreSQL say the same.

``RUNTIDE_CHAOS_SEED`` and ``RUNTIDE_CHAOS_SECONDS`` replay a plan, or make it longer; the seed and all that was done is
printed, and ``pytest -s`` shows it as it happens.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from runtide_consumers.duckdb.generations import Generations
from tests.acceptance.stack import RunningStack, eventually, running_stack
from tests.chaos.load import Load
from tests.chaos.oracle import Account, account_of_log, differences, read_records
from tests.chaos.plan import BURY, FREEZE, KILL, RIVAL, Fault, draw_plan
from tests.chaos.stores import account_of_duckdb, account_of_postgres
from tests.integration.service_processes import Service

SEED = int(os.environ.get("RUNTIDE_CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("RUNTIDE_CHAOS_SECONDS", "120"))
WRITERS = 20
SETTLE_S = 300.0
_LATER = {FREEZE: signal.SIGCONT, BURY: signal.SIGKILL}


class Chaos:
    """Carries a plan out, and undoes what has to be undone."""

    def __init__(self, stack: RunningStack, folder: Path) -> None:
        self.done: Counter[str] = Counter()
        self._stack = stack
        self._folder = folder
        self._stopped: list[tuple[float, int, signal.Signals]] = []
        self._rivals: list[tuple[float, Service]] = []

    def strike(self, fault: Fault, now: float) -> None:
        """Do what the plan says, unless the service is not there just then."""
        if fault.action == RIVAL:
            self._rivals.append((now + fault.lasts, self._rival(fault.service)))
        elif (process := self._process(fault.service)) is None:
            self.done[f"missed {fault.service}"] += 1
            return
        else:
            signal.pidfd_send_signal(process, signal.SIGKILL if fault.action == KILL else signal.SIGSTOP)
            if fault.action == KILL:
                os.close(process)
            else:
                self._stopped.append((now + fault.lasts, process, _LATER[fault.action]))
        self.done[f"{fault.action} {fault.service}"] += 1

    def undo(self, now: float) -> None:
        """Continue or kill what was stopped, and end rivals, as far as it is time."""
        for entry in [entry for entry in self._stopped if entry[0] <= now]:
            self._stopped.remove(entry)
            with contextlib.suppress(ProcessLookupError):  # another fault has killed it meanwhile
                signal.pidfd_send_signal(entry[1], entry[2])
            os.close(entry[1])
        for rival in [rival for rival in self._rivals if rival[0] <= now]:
            self._rivals.remove(rival)
            rival[1].kill()

    def _process(self, service: str) -> int | None:
        """Return a descriptor of a service's process, which no later process of that number can be mistaken for."""
        try:
            return os.pidfd_open(self._stack.services()[service])
        except (KeyError, ProcessLookupError):
            return None

    def _rival(self, store: str) -> Service:
        manifest = json.loads((self._stack.data / "runtide.json").read_text())
        bootstrap = f"127.0.0.1:{manifest['ports']['broker']}"
        name = f"rival-{self.done.total()}"
        arguments = (
            ("runtide_consumers.postgres", "--dsn", self._stack.postgres_dsn())
            if store == "projector-postgres"
            else (
                "runtide_consumers.duckdb",
                "--file",
                str(self._stack.data / "history" / "history.duckdb"),
                "--query-port",
                "0",
            )
        )
        rival = Service(self._folder, name, *arguments, bootstrap=bootstrap)
        rival.start()
        return rival


def rage(stack: RunningStack, load: Load, chaos: Chaos, plan: list[Fault]) -> None:
    """Keep the writers at work and carry the plan out; return when its time is over and all is undone."""
    begun, left = time.monotonic(), list(plan)
    while (now := time.monotonic() - begun) < SECONDS:
        load.keep_up(SECONDS - now)
        while left and left[0].at <= now:
            print(left[0], flush=True)
            chaos.strike(left.pop(0), now)
        chaos.undo(now)
        assert stack.process.poll() is None, "the supervisor gave up"
        time.sleep(0.05)
    chaos.undo(float("inf"))


def caught_up(stack: RunningStack, ends: Mapping[tuple[str, int], int]) -> bool:
    """Return whether both stores stand at the end of the log."""
    statement = "SELECT topic, partition, next_offset FROM projection_offsets"
    for rows in (stack.postgres(statement), stack.sql(statement)):
        found = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        if any(found.get(place, 0) < end for place, end in ends.items()):
            return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(int(SECONDS) + 1200)
def test_whatever_is_killed_log_and_stores_say_the_same(tmp_path: Path) -> None:
    plan = draw_plan(Random(SEED), SECONDS)
    print(f"\nRUNTIDE_CHAOS_SEED={SEED} RUNTIDE_CHAOS_SECONDS={SECONDS:g}: {len(plan)} faults", flush=True)
    data, claims = tmp_path / "data", tmp_path / "claims"
    claims.mkdir()
    with running_stack(data) as stack:
        environment = {**stack.environment, "RUNTIDE_SPOOL": str(tmp_path / "spool")}
        load = Load(claims, environment, stack.file.gateway, Random(SEED), WRITERS)
        chaos = Chaos(stack, tmp_path)
        try:
            rage(stack, load, chaos, plan)
            load.wait(SETTLE_S)
        finally:
            chaos.undo(float("inf"))
            load.stop()
        eventually(lambda: "\n" in stack.runtide("sync", str(tmp_path / "spool")).stdout, "everything synced", SETTLE_S)
        records, ends = asyncio.run(read_records(stack.file.broker))
        eventually(lambda: caught_up(stack, ends), "both stores at the end of the log", SETTLE_S)
        postgres = account_of_postgres(stack.postgres)
    duckdb = account_of_duckdb(Generations(data / "history" / "history.duckdb").live)
    log = account_of_log(records)
    _report(chaos, load, log.records, log.duplicates, log)
    problems = [*load.problems, *log.problems, *load.broken_promises(log)]
    problems += differences(log, postgres, "PostgreSQL") + differences(log, duckdb, "DuckDB")
    assert not problems, f"{len(problems)} problems with seed {SEED}:\n" + "\n".join(problems[:50])
    assert log.points > 0
    assert chaos.done.total() == len(plan)


def _report(chaos: Chaos, load: Load, records: int, duplicates: int, log: Account) -> None:
    killed = sum(writer.dies for writer in load.writers)
    print(f"{len(load.writers)} writers, {killed} of them killed; {records} records, {duplicates} of them again,")
    print(
        f"{log.points} points, checksum {log.checksum or 0:016x}; done: {dict(sorted(chaos.done.items()))}", flush=True
    )
