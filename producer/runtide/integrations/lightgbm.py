"""LightGBM: a callback for ``lightgbm.train``, ``lightgbm.cv`` and the scikit-learn estimators."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from runtide.integrations.frameworks import missing
from runtide.integrations.training_run import TrainingRun
from runtide.tracking.run import Run

try:
    from lightgbm import Booster
    from lightgbm.callback import CallbackEnv
except ImportError as error:
    raise missing("LightGBM", "lightgbm", error) from error

_AFTER_EVALUATION_BEFORE_EARLY_STOPPING = 20


class RuntideCallback:
    """Logs params, every evaluation, and where early stopping stopped.

    Metrics are named ``<data>-<metric>``, as ``valid_0-l2``; of ``lightgbm.cv`` ``valid-l2-mean`` and ``-stdv``. The step is
    LightGBM's iteration, which a training from ``init_model`` goes on counting.

    LightGBM does not tell callbacks that training ended. So the callback watches what the call of ``train`` or ``cv``
    holds: when that is gone, the call is over, and the booster says whether it came to its end.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, object] | None = None,
        log_model: bool = False,
    ) -> None:
        """Make a callback; it may serve any number of trainings, one after another.

        Args:
            run: the run to log to. None: the active one, else one of the training's own; see ``training_run.py``.
            name: of a run of its own.
            experiment: of a run of its own.
            tags: of a run of its own.
            log_model: store the booster as ``model/model.txt`` when training has ended.
        """
        self.order = _AFTER_EVALUATION_BEFORE_EARLY_STOPPING
        self.before_iteration = False
        self._training = TrainingRun("lightgbm", run, name=name, experiment=experiment, tags=tags)
        self._log_model = log_model
        self._booster: Any = None
        self._iteration = 0
        self._completed = self._watching = False

    def __call__(self, env: CallbackEnv) -> None:
        """Log an iteration; its first one begins the training."""
        with self._training.undisturbed("the callback"):
            if env.iteration == env.begin_iteration or env.model is not self._booster:
                self._begin(env)
            self._iteration = env.iteration
            self._completed = env.iteration == env.end_iteration - 1
            self._training.log_metrics(dict(_points(env.evaluation_result_list or ())), env.iteration)
            if self._completed and not self._watching:
                self._over()

    def _begin(self, env: CallbackEnv) -> None:
        self._training.begin()
        self._booster = env.model
        self._training.log_params(env.params)
        held = self._held_by_the_call()
        self._watching = held is not None
        if held is not None:
            self._training.watch(held, self._over)

    def _held_by_the_call(self) -> object | None:
        """The set of its callbacks, which the function that calls us holds as long as it runs."""
        frame = sys._getframe(3)
        return next((value for value in frame.f_locals.values() if isinstance(value, set) and self in value), None)

    def _over(self) -> None:
        booster, self._booster = self._booster, None
        stopped_early = booster.best_iteration > 0
        if not (self._completed or stopped_early):
            self._training.end_unfinished()
            return
        with self._training.undisturbed("logging the training's end"):
            if stopped_early:
                best = {"best_iteration": booster.best_iteration - 1, "stopped_iteration": self._iteration}
                self._training.log_metrics(best, booster.best_iteration - 1)
            if self._log_model and isinstance(booster, Booster):
                self._training.log_saved(booster.save_model, "model", "model.txt")
        self._training.end()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, in a worker of a search, say, is one between trainings."""
        return {**self.__dict__, "_booster": None}


def _points(results: Any) -> Iterator[tuple[str, float]]:
    for data, metric, value, _, *deviation in results:
        name = f"{data}-{metric}" if data != "cv_agg" else metric.replace(" ", "-", 1)  # so before LightGBM 4.7
        if deviation and deviation[0] is not None:
            yield from ((f"{name}-mean", value), (f"{name}-stdv", deviation[0]))
        else:
            yield name, value
