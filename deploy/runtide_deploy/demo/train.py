"""One training job of the demo: a scikit-learn classifier on scikit-learn's bundled digits, tracked with Runtide.

Run as ``python -m runtide_deploy.demo.train NAME``; three of these run at once. Prints the run id and model URI as one line of JSON.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import ConfusionMatrixDisplay, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import runtide

SEED = 7
CLASSES = np.arange(10)


@dataclass(frozen=True, slots=True)
class Split:
    """Digits as 64 pixels scaled to 0..1, with the digit each shows."""

    pixels: Any
    digit: Any


@dataclass(frozen=True, slots=True)
class Job:
    """A model, how long to train it, and one iteration of its training."""

    model: Any
    iterations: int
    iterate: Callable[[Any, Split], None]


def load_splits() -> tuple[Split, Split, Split]:
    """Return the digits as training, validation and test data, the same at every call."""
    pixels, digit = load_digits(return_X_y=True)
    rest_pixels, test_pixels, rest_digit, test_digit = train_test_split(
        pixels / 16, digit, test_size=0.15, stratify=digit, random_state=SEED
    )
    train_pixels, valid_pixels, train_digit, valid_digit = train_test_split(
        rest_pixels, rest_digit, test_size=0.2, stratify=rest_digit, random_state=SEED
    )
    return Split(train_pixels, train_digit), Split(valid_pixels, valid_digit), Split(test_pixels, test_digit)


def _one_epoch(model: Any, train: Split) -> None:
    model.partial_fit(train.pixels, train.digit, classes=CLASSES)


def _more_trees(model: Any, train: Split) -> None:
    model.n_estimators += 2
    model.fit(train.pixels, train.digit)


JOBS: dict[str, Callable[[], Job]] = {
    "linear": lambda: Job(SGDClassifier(loss="log_loss", alpha=1e-4, random_state=SEED), 60, _one_epoch),
    "perceptron": lambda: Job(MLPClassifier((64, 32), learning_rate_init=2e-3, random_state=SEED), 60, _one_epoch),
    "forest": lambda: Job(RandomForestClassifier(n_estimators=0, warm_start=True, random_state=SEED), 40, _more_trees),
}


def train(name: str) -> None:
    """Train one job and log everything about it."""
    job, (train_split, valid, test) = JOBS[name](), load_splits()
    runtide.init(experiment="digits")
    with runtide.start_run(name=name, tags={"dataset": "sklearn digits"}) as run:
        run.log_params({"model": type(job.model).__name__, "iterations": job.iterations, **_own_params(job.model)})
        for step, metrics in enumerate(_iterations(job, train_split, valid)):
            run.log_metrics(metrics, step=step)
        run.log_metric("test_accuracy", float(job.model.score(test.pixels, test.digit)))
        run.log_figure(_confusion_matrix(job.model, test), "confusion_matrix.png")
        model = run.log_model(job.model, "classifier", input_example=test.pixels[:2])
    print(json.dumps({"run_id": run.run_id, "model_uri": model.uri}))  # noqa: T201  # what the demo reads


def _own_params(model: Any) -> dict[str, Any]:
    return {key: value for key, value in model.get_params().items() if isinstance(value, int | float | str | bool)}


def _iterations(job: Job, train_split: Split, valid: Split) -> Iterator[dict[str, float]]:
    for _ in range(job.iterations):
        job.iterate(job.model, train_split)
        yield {
            "loss": float(log_loss(train_split.digit, job.model.predict_proba(train_split.pixels), labels=CLASSES)),
            "val_loss": float(log_loss(valid.digit, job.model.predict_proba(valid.pixels), labels=CLASSES)),
            "val_accuracy": float(job.model.score(valid.pixels, valid.digit)),
        }


def _confusion_matrix(model: Any, test: Split) -> Any:
    mpl.use("Agg")
    display = ConfusionMatrixDisplay.from_estimator(model, test.pixels, test.digit, colorbar=False)
    display.ax_.set_title(f"{type(model).__name__} on held-out digits")
    return display.figure_


if __name__ == "__main__":
    train(sys.argv[1])
