"""``python -m tests.chaos.faulty_projector POINT kill|stop NTH postgres|duckdb ...``: a projector that ends at a point.

At that point of its NTH batch with events it sends itself SIGKILL, or SIGSTOP (and is a zombie once it is continued). Its
batches are small, so that a short log makes many of them. But for that it is the projector as it is.
"""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from runtide_consumers import log_reader, process
from runtide_consumers.duckdb import history
from runtide_consumers.duckdb.log_state import LogState
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.log_reader import BatchLimits
from runtide_consumers.postgres import projection as postgres_projection
from runtide_consumers.projection import Batch
from runtide_consumers.projector import ProjectorSettings

BEFORE_WRITE = "before-write"
AFTER_WRITE = "after-write"
BEFORE_COMMIT = "before-commit"
COMMIT_UNHEARD = "commit-unheard"
AFTER_COMMIT = "after-commit"
POSTGRES_POINTS = (BEFORE_WRITE, AFTER_WRITE, BEFORE_COMMIT, COMMIT_UNHEARD, AFTER_COMMIT)
DUCKDB_POINTS = (BEFORE_WRITE, AFTER_WRITE, BEFORE_COMMIT, AFTER_COMMIT)
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Fault:
    """Strikes once: at ``point`` of the ``nth`` batch that has events."""

    def __init__(self, point: str, action: str, nth: int) -> None:
        self._point = point
        self._signal = _SIGNALS[action]
        self._left = nth
        self._busy = False

    def begin(self, batch: Batch) -> None:
        """A batch is about to be applied."""
        self._busy = bool(batch.events)
        self._left -= self._busy
        self.at(BEFORE_WRITE)

    def due(self, point: str) -> bool:
        """Return whether this is the point."""
        return self._busy and self._left == 0 and point == self._point

    def at(self, point: str) -> None:
        """Strike if this is the point."""
        if self.due(point):
            self.strike()

    def strike(self) -> None:
        """Send the signal; after a stop go on as if nothing had been."""
        self._left -= 1
        print(f"fault at {self._point}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), self._signal)


def main() -> int:
    """Arm the projector and run it."""
    _, point, action, nth, name, *arguments = sys.argv
    sys.argv = [name, *arguments]
    fault = Fault(point, action, int(nth))
    log_reader.CHUNK_RECORDS = 10
    starting: Any = process
    starting.ProjectorSettings = partial(ProjectorSettings, limits=BatchLimits(max_bytes=1_000))
    ARM[name](fault)
    main_of = importlib.import_module(f"runtide_consumers.{name}.__main__").main
    return int(main_of())


def _arm_postgres(fault: Fault) -> None:
    projection: Any = postgres_projection.PostgresProjection
    apply, save = projection.apply, postgres_projection._save_sequences

    async def faulty_apply(self: Any, batch: Batch) -> None:
        fault.begin(batch)
        await apply(self, batch)
        fault.at(AFTER_COMMIT)

    async def faulty_save(connection: Any, admitted: Any) -> None:
        fault.at(AFTER_WRITE)  # rows and positions are written, the writers' numbers are not
        await save(connection, admitted)
        fault.at(BEFORE_COMMIT)
        if fault.due(COMMIT_UNHEARD):
            committing = asyncio.ensure_future(connection.execute("commit"))
            await asyncio.sleep(0)  # the task runs as far as sending it
            fault.strike()
            await committing

    projection.apply = faulty_apply
    postgres_projection._save_sequences = faulty_save


def _arm_duckdb(fault: Fault) -> None:
    layout: Any = history
    state_class: Any = LogState
    projection: Any = DuckdbProjection
    fold: Callable[..., Any] = layout.fold_batch
    write = LogState.write
    checkpoint = projection._checkpoint_now_and_then

    def faulty_fold(connection: Any, state: Any, batch: Batch) -> Any:
        fault.begin(batch)
        after = fold(connection, state, batch)
        fault.at(BEFORE_COMMIT)
        return after

    def faulty_write(self: Any, connection: Any, batch: Batch, last_request_offset: int) -> Any:
        fault.at(AFTER_WRITE)  # rows are written, positions are not
        return write(self, connection, batch, last_request_offset)

    def faulty_checkpoint(self: Any, connection: Any) -> None:
        fault.at(AFTER_COMMIT)
        checkpoint(self, connection)

    layout.fold_batch = faulty_fold
    state_class.write = faulty_write
    projection._checkpoint_now_and_then = faulty_checkpoint


ARM: dict[str, Callable[[Fault], None]] = {"postgres": _arm_postgres, "duckdb": _arm_duckdb}
"""How a fault is built into the projection of a store."""

if __name__ == "__main__":
    sys.exit(main())
