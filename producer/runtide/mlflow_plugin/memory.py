"""What this process knows of a run that it writes to, so that MLflow can read back what it has just written.

Bounded: of each metric the latest point is kept, and of the first hundred the newest thousand. The log has all of them.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlflow.entities import (
    DatasetInput,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)

KEPT_POINTS = 1_000
"""Points of one metric of one run that are remembered."""
KEPT_METRICS = 100
"""Metrics of one run of which more than the latest point is remembered."""
INPUT, OUTPUT = "input", "output"
"""What a run does with a logged model."""
STARTED, STATUS, NAME, STAGE = ("started",), ("status",), ("name",), ("stage",)
"""What can be written of a run, besides its tags; see ``tag_of``."""

Fact = tuple[str, ...]
Link = tuple[str, str]
"""What a run did with a logged model (``input``, ``output``), and the model's id."""
Mark = tuple[str, int]
"""A writer of this process, and how many events of the run's topic it had written when it had written something."""


@dataclass(slots=True)
class RunMemory:
    """A run as far as this process wrote it.

    Attributes:
        whole: this process started it, so that everything is here but what others wrote.
        history: of each metric the remembered points, each with the writer of this process that logged it.
        written: how many points of a metric each writer of this process logged.
        models: the logged models that the run took and made, with the step.
        unseen: what was written here and is not known to be in the projections: for that, own values count.
        events: how many events of each topic the writers that are closed wrote, until the projections have them.
        stale: something was logged since the projections were last seen to have everything.
        lock: held for anything but reading single values.
        asking: held while the gateway is asked for the run, so that an older answer is not taken for a newer one.
    """

    run_id: str
    experiment_id: str = ""
    name: str = ""
    user: str = ""
    status: str = "RUNNING"
    start_time: int = 0
    end_time: int | None = None
    artifact_uri: str = ""
    stage: str = LifecycleStage.ACTIVE
    whole: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    latest: dict[str, Metric] = field(default_factory=dict)
    history: dict[str, deque[tuple[str, Metric]]] = field(default_factory=dict)
    written: dict[str, Counter[str]] = field(default_factory=dict)
    unseen: dict[Fact, Mark] = field(default_factory=dict)
    events: dict[str, dict[str, int]] = field(default_factory=dict)
    stale: bool = True
    datasets: dict[tuple[str, str], DatasetInput] = field(default_factory=dict)
    models: dict[Link, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    asking: threading.Lock = field(default_factory=threading.Lock)

    def note_points(self, logged: Iterable[tuple[str, Metric]]) -> None:
        """Remember points, each with its writer; the latest is the greatest by (step, timestamp, value)."""
        with self.lock:
            self.stale = True
            for writer, metric in logged:
                key = metric.key
                kept = self.history.get(key)
                if kept is None:
                    kept = deque(maxlen=KEPT_POINTS if len(self.history) < KEPT_METRICS else 1)
                    self.history[key] = kept
                    self.written.setdefault(key, Counter())
                kept.append((writer, metric))
                self.written[key][writer] += 1
                before = self.latest.get(key)
                if before is None or place(metric) >= place(before):
                    self.latest[key] = metric

    def note(self, mark: Mark, *facts: Fact) -> None:
        """Remember that facts were written, and how far the projections have to be to have them."""
        with self.lock:
            self.stale = True
            self.unseen.update(dict.fromkeys(facts, mark))

    def clashes(self, params: Mapping[str, str]) -> dict[str, str]:
        """Return those of the params that have another value already."""
        known = self.params
        return {key: value for key, value in params.items() if known.get(key, value) != value}

    def points(self, key: str) -> tuple[list[tuple[str, Metric]], Counter[str]]:
        """Return the remembered points of a metric as they were logged, and how many each writer of this process logged."""
        with self.lock:
            return list(self.history.get(key, ())), Counter(self.written.get(key, ()))

    def forget_history(self) -> None:
        """Keep only the latest point of each metric."""
        with self.lock:
            self.history.clear()

    def as_run(self) -> Run:
        """Return MLflow's run."""
        with self.lock:
            latest, datasets = list(self.latest.values()), list(self.datasets.values())
            return assembled(self.as_info(), latest, self.params, self.tags, datasets, self.models)

    def as_info(self) -> RunInfo:
        """Return MLflow's description of the run."""
        return RunInfo(
            run_id=self.run_id,
            run_name=self.name,
            experiment_id=self.experiment_id,
            user_id=self.user,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            lifecycle_stage=self.stage,
            artifact_uri=self.artifact_uri,
        )


def tag_of(key: str) -> Fact:
    """Return what is written when a tag is set or deleted."""
    return "tag", key


def place(metric: Metric) -> tuple[int, int, bool, float]:
    """Return where a point stands among those of its metric; NaN is greater than any number, as in the projections."""
    value = float(metric.value)
    return metric.step, metric.timestamp, value != value, value  # only NaN differs from itself


def assembled(
    info: RunInfo,
    metrics: list[Metric],
    params: Mapping[str, str],
    tags: Mapping[str, str],
    datasets: list[DatasetInput],
    models: Mapping[Link, int],
) -> Run:
    """Return MLflow's run from its parts."""
    models_in = [LoggedModelInput(model_id) for role, model_id in models if role == INPUT]
    models_out = [LoggedModelOutput(model_id, step) for (role, model_id), step in models.items() if role == OUTPUT]
    data = RunData(
        metrics=metrics,
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    return Run(info, data, RunInputs(dataset_inputs=datasets, model_inputs=models_in), RunOutputs(models_out))
