"""Runs side by side: params that differ, what each metric came to, and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtide_queries.history import Curve, History, curves
from runtide_queries.runs import MetricSummary, unknown_run
from runtide_schemas.errors import InvalidRequest

MAX_RUNS = 100
MAX_CURVES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """What names a run in a comparison, deleted or not (``lifecycle_stage``); times in Unix milliseconds."""

    run_id: str
    name: str | None
    experiment_id: str
    status: str | None
    start_time: int | None
    end_time: int | None
    lifecycle_stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """The runs with a metric's least minimum and greatest maximum; null when no run has a value but NaN."""

    lowest_run: str | None
    highest_run: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: the runs in the order asked for.
        params: by key, then run: the value.
        differing_params: the keys of params that not all runs have with the same value.
        metrics: by key, then run: what the metric came to.
        extremes: by metric key: which runs have the lowest and the highest value.
        curves: the curves asked for.
    """

    runs: tuple[ComparedRun, ...]
    params: Mapping[str, Mapping[str, str]]
    differing_params: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, MetricSummary]]
    extremes: Mapping[str, Extremes]
    curves: tuple[Curve, ...]


async def compare(
    history: History, run_ids: Sequence[str], *, keys: Sequence[str] = (), points: int = 100
) -> Comparison:
    """Return runs side by side, with the curves of the metrics ``keys`` in at most ``points`` buckets each.

    Raises:
        NotFound: the history store knows one of the runs not.
        InvalidRequest: no run, or too many runs or curves.
    """
    wanted = list(dict.fromkeys(run_ids))
    if not 1 <= len(wanted) <= MAX_RUNS:
        raise InvalidRequest(f"Compare 1 to {MAX_RUNS} runs, got {len(wanted)}")
    if len(wanted) * len(keys) > MAX_CURVES:
        raise InvalidRequest(
            f"{len(wanted)} runs with {len(keys)} metrics are more than {MAX_CURVES} curves; ask for less"
        )
    runs = {row[0]: _run(row) for row in await history.rows("compare_runs", run_ids=wanted)}
    for run_id in wanted:
        if run_id not in runs:
            raise unknown_run(run_id)
    params, metrics = await _params(history, wanted), await _metrics(history, wanted)
    return Comparison(
        runs=tuple(runs[run_id] for run_id in wanted),
        params=params,
        differing_params=tuple(key for key, values in params.items() if _differs(values, len(wanted))),
        metrics=metrics,
        extremes={key: _extremes(summaries) for key, summaries in metrics.items()},
        curves=await curves(history, wanted, keys, buckets=points),
    )


def _run(row: tuple[object, ...]) -> ComparedRun:
    return ComparedRun(**dict(zip(ComparedRun.__dataclass_fields__, row, strict=True)))  # type: ignore[arg-type]  # columns are its fields


async def _params(history: History, run_ids: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, run_id, value in await history.rows("compare_params", run_ids=run_ids):
        found.setdefault(key, {})[run_id] = value
    return found


def _differs(values: Mapping[str, str], runs: int) -> bool:
    return len(values) < runs or len(set(values.values())) > 1


async def _metrics(history: History, run_ids: list[str]) -> dict[str, dict[str, MetricSummary]]:
    found: dict[str, dict[str, MetricSummary]] = {}
    names = tuple(MetricSummary.__dataclass_fields__)[1:]
    for key, run_id, *values in await history.rows("compare_metrics", run_ids=run_ids):
        found.setdefault(key, {})[run_id] = MetricSummary(key=key, **dict(zip(names, values, strict=True)))
    return found


def _extremes(summaries: Mapping[str, MetricSummary]) -> Extremes:
    lows = {run_id: summary.min_value for run_id, summary in summaries.items() if summary.min_value is not None}
    highs = {run_id: summary.max_value for run_id, summary in summaries.items() if summary.max_value is not None}
    return Extremes(
        lowest_run=min(lows, key=lambda run_id: lows[run_id], default=None),
        highest_run=max(highs, key=lambda run_id: highs[run_id], default=None),
    )
