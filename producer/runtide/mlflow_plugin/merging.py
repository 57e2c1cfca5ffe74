"""One answer from two: what the gateway knows of a run, and what this process wrote to it that projections lack yet.

What is known to be in the projections is theirs to tell, because others may have written since; until then, own writes
count, so that whatever was written can be read back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow.entities import DatasetInput, Metric, Run, RunInfo

from runtide.mlflow_plugin.answers import links_of, point_of, run_of
from runtide.mlflow_plugin.memory import NAME, STAGE, STARTED, STATUS, RunMemory, assembled, place, tag_of


def merged_run(told: Mapping[str, Any], memory: RunMemory) -> Run:
    """Return a run of the gateway's answer with what this process wrote; what others wrote is remembered, too."""
    found = run_of(told)
    latest = {metric.key: metric for metric in found.data._metric_objs}
    with memory.lock:
        for key, metric in memory.latest.items():
            if key not in latest or place(metric) >= place(latest[key]):
                latest[key] = metric
        datasets = _by_name(memory.datasets.values()) | _by_name(_datasets_of(found))
        models = links_of(told) | memory.models
        memory.params = {**memory.params, **found.data.params}
        _adopt_tags(memory, told["run"]["tags"])
        _adopt_info(memory, found.info)
        points, tags = list(latest.values()), memory.tags
        return assembled(memory.as_info(), points, memory.params, tags, list(datasets.values()), models)


def merged_points(
    told: Iterable[Mapping[str, Any]], own: Sequence[tuple[str, Metric]], written: Counter[str], key: str, run_id: str
) -> tuple[list[Metric], int]:
    """Return every point that is known of a metric, and how many of this process's own are not among them.

    Each writer's points are those of whoever knows more of them: the gateway, or the memory of this process.

    Args:
        told: the gateway's.
        own: those that are remembered here, each with its writer.
        written: how many each writer of this process logged.
        key: of the metric.
        run_id: of its run.
    """
    theirs: dict[str, list[Metric]] = {}
    for point in told:
        theirs.setdefault(point["writer_id"], []).append(point_of(point, key, run_id))
    ours: dict[str, list[Metric]] = {}
    for writer, metric in own:
        ours.setdefault(writer, []).append(metric)
    missing = 0
    for writer, count in written.items():
        remembered, known = ours.get(writer, []), theirs.get(writer, [])
        if len(known) < count:
            theirs[writer] = max(remembered, known, key=len)
            missing += max(0, count - len(theirs[writer]))
    return [point for points in theirs.values() for point in points], missing


def _adopt_tags(memory: RunMemory, told: Mapping[str, str]) -> None:
    own = {key: value for key, value in memory.tags.items() if tag_of(key) in memory.unseen}
    memory.tags = {key: value for key, value in told.items() if tag_of(key) not in memory.unseen} | own


def _adopt_info(memory: RunMemory, told: RunInfo) -> None:
    unseen = memory.unseen
    if not memory.whole:
        memory.experiment_id, memory.user = told.experiment_id or memory.experiment_id, told.user_id or memory.user
        memory.start_time = told.start_time or memory.start_time
        memory.artifact_uri = told.artifact_uri or memory.artifact_uri
    elif memory.end_time is not None and STARTED not in unseen:
        memory.experiment_id = told.experiment_id or memory.experiment_id  # the number, where there was a name at first
    if STATUS not in unseen and STARTED not in unseen:
        memory.status, memory.end_time = told.status, told.end_time
    if NAME not in unseen and STARTED not in unseen:
        memory.name = told.run_name or memory.name
    if STAGE not in unseen:
        memory.stage = told.lifecycle_stage


def _by_name(given: Iterable[DatasetInput]) -> dict[tuple[str, str], DatasetInput]:
    return {(one.dataset.name, one.dataset.digest): one for one in given}


def _datasets_of(run: Run) -> list[DatasetInput]:
    return run.inputs.dataset_inputs if run.inputs is not None else []
