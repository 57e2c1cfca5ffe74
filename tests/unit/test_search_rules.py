"""The rules that the search is held to, against those of the real MLflow: its in-memory filter and sort are the judge."""

import math

from hypothesis import given, settings
from hypothesis import strategies as some
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)
from mlflow.utils.search_utils import SearchUtils

from runtide_queries.search.grammar import parse_filter, parse_order
from runtide_queries.search.vocabularies import CONTEXT_TAG
from tests.unit.random_filters import ANDS, NAMES, ORDERED, samples
from tests.unit.search_rules import Sample, holds, in_order

RUNS = samples(some.integers(0, 3), NAMES)


def mlflow_run(run: Sample) -> Run:
    """Return the run as MLflow's."""
    info = RunInfo(
        run_id=run.run_id, run_name=run.name, experiment_id="0", user_id="", status=run.status, start_time=run.start_time or 0, end_time=None,
        lifecycle_stage="active",
    )  # fmt: skip
    data = RunData(
        metrics=[Metric(key, value, 0, 0) for key, value in run.metrics.items()],
        params=[Param(*item) for item in run.params.items()],
        tags=[RunTag(*item) for item in run.tags.items()],
    )
    inputs = [
        DatasetInput(Dataset(name, digest, "", ""), [] if context is None else [InputTag(CONTEXT_TAG, context)])
        for name, digest, context in run.datasets
    ]
    return Run(info, data, RunInputs(inputs))


@settings(max_examples=60, deadline=None)
@given(RUNS, ANDS)
def test_filters_come_to_what_mlflow_says(runs: list[Sample], text: str) -> None:
    judged = [run.info.run_id for run in SearchUtils.filter([mlflow_run(run) for run in runs], text)]
    tree = parse_filter(text)
    assert [run.run_id for run in runs if holds(tree, run)] == judged


@settings(max_examples=40, deadline=None)
@given(RUNS, ORDERED)
def test_orders_come_to_what_mlflow_says(runs: list[Sample], terms: list[str]) -> None:
    judged = [run.info.run_id for run in SearchUtils.sort([mlflow_run(run) for run in runs], terms)]
    assert in_order(runs, [parse_order(term) for term in terms]) == judged


def test_the_rules_themselves_tell_missing_from_other() -> None:
    run = Sample(run_id="r0", name="one", status="RUNNING", start_time=1, metrics={"a": math.nan}, tags={"a": "x"})
    truths = {
        "metrics.a != 1": True,
        "metrics.b != 1": False,
        "NOT metrics.b = 1": True,
        "metrics.a < 1 OR metrics.a >= 1": False,
        "tags.b IS NULL AND tags.a IS NOT NULL": True,
        "tags.b != 'x'": False,
        "tags.a LIKE 'X'": False,
        "tags.a ILIKE 'X'": True,
    }
    assert {text: holds(parse_filter(text), run) for text in truths} == truths
