"""The file of a fold of an operator's own, and a log for the example of PROJECTIONS.md."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from runtide_consumers.duckdb.custom import DuckdbFold
from runtide_consumers.duckdb.custom_layout import FoldLayout
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import RunStarted
from tests.parked_log import OTHER, RUN, ParkedLog
from tests.unit.event_log import AT


@asynccontextmanager
async def opened(path: Path, kind: type[DuckdbFold]) -> AsyncIterator[DuckdbProjection]:
    """Open a fold's file."""
    projection = DuckdbProjection(DuckdbSettings(file=path), FoldLayout("gradients", kind()))
    try:
        await projection.open()
        yield projection
    finally:
        await projection.close()


def points(run_id: str, layer: str, steps: range, value: Callable[[int], float] = float) -> MetricsLogged:
    """Return an event with one layer's norms, and a loss."""
    count = len(steps)
    return MetricsLogged(
        run_id=run_id,
        keys=("loss", f"gradient_norm/{layer}"),
        key_index=np.ones(count, np.int32),
        step=np.array(steps, np.int64),
        timestamp=np.full(count, AT),
        value=np.array([value(step) for step in steps], np.float64),
    )


def some_log() -> ParkedLog:
    """Return a log with two runs, duplicates among their events."""
    log = ParkedLog()
    for run_id, writer in ((RUN, "w0"), (OTHER, "w1")):
        log.append(RunStarted(run_id=run_id, name=f"named {writer}", start_time=AT), writer)
        for number in range(6):
            event = points(run_id, f"layer{number % 2}", range(60 * number, 60 * number + 60))
            log.append(event, writer, number)
            log.append(event, writer, number)
    return log
