"""Distinct points of metrics, for readers to whom the same point sent twice is one (MLflow's histories)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtide_queries.history import History

LOWEST, HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class CurvePoints:
    """Points of one metric as columns: a curve has thousands. Timestamps in Unix milliseconds.

    Attributes:
        run_ids: the run of each; None: all are of one.
    """

    timestamps: Sequence[int]
    steps: Sequence[int]
    values: Sequence[float]
    run_ids: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Points by timestamp, step and value; ``next_after`` is the last one when there are more, as a token holds it."""

    points: CurvePoints
    next_after: tuple[int, int, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A question for evenly spaced points: of which runs, in which span of steps, at most how many of each run."""

    run_ids: Sequence[str]
    key: str
    start: int | None
    end: int | None
    most: int


async def history_page(
    history: History, run_id: str, key: str, after: Sequence[int | str] | None, most: int
) -> HistoryPage:
    """Return a page of a curve; ``after`` is the page's before ``next_after``. An unknown run or key has no points."""
    about = {"run_id": run_id, "key": key, "most": most + 1}
    if after is None:
        found = await history.columns("first_points", **about)
    else:
        names = ("after_timestamp", "after_step", "after_value")
        found = await history.columns("next_points", **about, **dict(zip(names, after, strict=True)))
    timestamps, steps, values = (column[:most] for column in found)
    points = CurvePoints(timestamps, steps, values)
    return HistoryPage(points, (timestamps[-1], steps[-1], repr(values[-1])) if len(found[0]) > most else None)


async def bulk_points(history: History, run_ids: Sequence[str], key: str, most: int) -> CurvePoints:
    """Return points of one metric of several runs, by run, timestamp, step and value."""
    return _of_runs(await history.columns("points_of_runs", run_ids=list(run_ids), key=key, most=most))


async def sampled_points(history: History, asked: Sampled) -> CurvePoints:
    """Return evenly spaced points of one metric of several runs, in the order of these and by step."""
    found = await history.columns(
        "sampled_points",
        run_ids=list(asked.run_ids),
        key=asked.key,
        low=LOWEST if asked.start is None else asked.start,
        high=HIGHEST if asked.end is None else asked.end,
        most=asked.most,
    )
    return _of_runs(found)


def _of_runs(columns: Sequence[Sequence[Any]]) -> CurvePoints:
    run_ids, timestamps, steps, values = columns
    return CurvePoints(timestamps, steps, values, run_ids)
