"""XGBoost: a callback for ``xgboost.train``, ``xgboost.cv`` and the scikit-learn estimators."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtide.integrations.frameworks import missing
from runtide.integrations.training_run import TrainingRun
from runtide.tracking.run import Run

try:
    import numpy as np
    from xgboost import collective
    from xgboost.callback import TrainingCallback
except ImportError as error:
    raise missing("XGBoost", "xgboost", error) from error

_PARAMS_OF = ("generic_param", "gradient_booster", "learner_train_param", "learner_model_param")
_NO_PARAMS = {
    "base_score",
    "fail_on_invalid_gpu_id",
    "num_trees",
    "updater",
    "updater_seq",
    "validate_parameters",
    "nthread",
}


class RuntideCallback(TrainingCallback):
    """Logs the booster's params, every evaluation, and where early stopping stopped.

    Metrics are named ``<data>-<metric>``, as ``validation_0-rmse``; of ``xgboost.cv`` ``test-rmse-mean`` and ``-std``. The
    step is the number of rounds that the booster had before, so a training that goes on from ``xgb_model`` goes on here. Of a
    distributed training the first worker logs; its evaluations are those of all.
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
            log_model: store the booster as ``model/model.ubj`` when training has ended.
        """
        super().__init__()
        self._training = TrainingRun("xgboost", run, name=name, experiment=experiment, tags=tags)
        self._log_model = log_model
        self._first_step = self._step = 0
        self._best_before: dict[str, float] = {}

    def before_training(self, model: Any) -> Any:
        """Choose the run, and log the booster's params; on other workers than the first of a distributed training not."""
        with self._training.undisturbed("before_training"):
            if collective.get_rank() > 0:
                return model
            self._training.begin()
            self._training.watch(model, self._training.end_unfinished)
            booster = _first_booster(model)
            self._first_step = booster.num_boosted_rounds()
            self._best_before = _best(booster)
            self._training.log_params(booster_params(booster))
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's signature
        """Log the round's evaluations; never stops the training."""
        with self._training.undisturbed("after_iteration"):
            self._step = self._first_step + epoch
            self._training.log_metrics(dict(_last_points(evals_log)), self._step)
        return False

    def after_training(self, model: Any) -> Any:
        """Log the best round, store the model when asked to, and end a run of its own."""
        with self._training.undisturbed("after_training"):
            booster = _first_booster(model)
            best = _best(booster)
            if best and best != self._best_before:  # a booster that is trained on keeps what an earlier training left
                self._training.log_metrics({**best, "stopped_iteration": self._step}, int(best["best_iteration"]))
            if self._log_model and booster is model:
                self._training.log_saved(model.save_model, "model", "model.ubj")
        self._training.end()
        return model


def _best(booster: Any) -> dict[str, float]:
    """Return what early stopping has noted in a booster: the best round and its score; nothing when there was none."""
    found = {name: booster.attr(name) for name in ("best_iteration", "best_score")}
    return {name: float(value) for name, value in found.items() if value is not None}


def booster_params(booster: Any) -> dict[str, str]:
    """Return the params that a booster trains with, its defaults too, under XGBoost's names."""
    learner = json.loads(booster.save_config())["learner"]
    return {
        key: _as_given(value)
        for section in _PARAMS_OF
        for key, value in _texts(learner[section])
        if key not in _NO_PARAMS and value
    }


def _texts(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The values of sections of params, at any depth; what is no param has another name or type."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, str) and key != "name":
            yield key, value


def _as_given(text: str) -> str:
    """A float of 32 bits as short as it was given: XGBoost writes 0.3 as 0.300000012."""
    try:
        return str(np.float32(text)) if "." in text else text
    except ValueError:
        return text


def _first_booster(model: Any) -> Any:
    """The booster; of those of a cross-validation the first."""
    folds = getattr(model, "cvfolds", None)
    return folds[0].bst if folds else model


def _last_points(evals_log: Mapping[str, Mapping[str, Sequence[Any]]]) -> Iterator[tuple[str, float]]:
    for data, metrics in evals_log.items():
        for metric, values in metrics.items():
            last = values[-1]
            if isinstance(last, tuple):
                yield from zip((f"{data}-{metric}-mean", f"{data}-{metric}-std"), last, strict=True)
            else:
                yield f"{data}-{metric}", last
