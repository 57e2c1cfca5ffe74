"""Distinct points of metrics, for readers to whom the same point sent twice is one (MLflow's histories)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runtide_queries.history import History

LOWEST, HIGHEST = -(2**63), 2**63 - 1
_BEFORE_ALL = (LOWEST, LOWEST, "-inf")


class DistinctPoint(NamedTuple):
    """A point, whoever logged it; ``timestamp`` in Unix milliseconds."""

    timestamp: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Points by timestamp, step and value; ``next_after`` is the last one when there are more, as a token holds it."""

    points: tuple[DistinctPoint, ...]
    next_after: tuple[int, int, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A question for evenly spaced points: of which runs, in which span of steps, at most how many steps."""

    run_ids: Sequence[str]
    key: str
    start: int | None
    end: int | None
    most: int


RunPoint = tuple[str, int, int, float]
"""Run, timestamp, step, value."""


async def history_page(
    history: History, run_id: str, key: str, after: Sequence[int | str] | None, most: int
) -> HistoryPage:
    """Return a page of a curve; ``after`` is the page's before ``next_after``. An unknown run or key has no points."""
    timestamp, step, value = after or _BEFORE_ALL
    rows = await history.rows(
        "distinct_points",
        run_id=run_id,
        key=key,
        after_timestamp=timestamp,
        after_step=step,
        after_value=value,
        most=most + 1,
    )
    points = tuple(DistinctPoint(*row) for row in rows[:most])
    last = points[-1] if len(rows) > most else None
    return HistoryPage(points, None if last is None else (last.timestamp, last.step, repr(last.value)))


async def bulk_points(history: History, run_ids: Sequence[str], key: str, most: int) -> list[RunPoint]:
    """Return points of one metric of several runs, by run, timestamp, step and value."""
    return [_run_point(row) for row in await history.rows("points_of_runs", run_ids=list(run_ids), key=key, most=most)]


async def sampled_points(history: History, asked: Sampled) -> list[RunPoint]:
    """Return evenly spaced points of one metric of several runs, by run and step."""
    rows = await history.rows(
        "sampled_points",
        run_ids=list(asked.run_ids),
        key=asked.key,
        low=LOWEST if asked.start is None else asked.start,
        high=HIGHEST if asked.end is None else asked.end,
        most=asked.most,
    )
    return [_run_point(row) for row in rows]


def _run_point(row: tuple[object, ...]) -> RunPoint:
    run_id, timestamp, step, value = row
    return str(run_id), int(timestamp), int(step), float(value)  # type: ignore[call-overload,arg-type]
