"""The examples of producer/README.md run as written, each with its framework, and log a run that finishes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtide
from tests import heavy
from tests.spooled_runs import spool, spooled_runs

__all__ = ["spool"]  # the fixture

README = (Path(__file__).parents[2] / "producer" / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(from runtide\.integrations\.(\w+) .*?)^```", README, re.MULTILINE | re.DOTALL)
ROWS = np.random.default_rng(0).random((60, 4)).astype("float32")
LABELS = (ROWS[:, 0] > 0.5).astype("int32")


def _for_xgboost(folder: Path) -> dict[str, Any]:
    import xgboost

    data = xgboost.DMatrix(ROWS, LABELS)
    return {"xgboost": xgboost, "params": {"nthread": 1}, "train": data, "valid": data}


def _for_lightgbm(folder: Path) -> dict[str, Any]:
    import lightgbm

    train = lightgbm.Dataset(ROWS, LABELS)
    valid = lightgbm.Dataset(ROWS, LABELS, reference=train)
    params = {"num_threads": 1, "verbosity": -1, "objective": "binary"}
    return {"lightgbm": lightgbm, "params": params, "train": train, "valid": valid}


def _for_sklearn(folder: Path) -> dict[str, Any]:
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    return {"GridSearchCV": GridSearchCV, "SVC": SVC, "rows": ROWS, "labels": LABELS, "runtide": runtide}


def _for_keras(folder: Path) -> dict[str, Any]:
    heavy.require("keras", "jax")
    from tests.unit.test_integrations_keras import compiled

    return {"model": compiled(), "rows": ROWS, "labels": LABELS}


def _for_lightning(folder: Path) -> dict[str, Any]:
    heavy.require("torch", "lightning", by="make test-torch")
    from functools import partial

    from lightning import Trainer

    from tests.unit.test_integrations_lightning import Line, data

    small = partial(Trainer, accelerator="cpu", default_root_dir=folder, log_every_n_steps=1)
    return {"Trainer": small, "module": Line(), "loader": data()}


def _for_transformers(folder: Path) -> dict[str, Any]:
    heavy.require("torch", "transformers", "accelerate", by="make test-torch")
    from transformers import Trainer, TrainingArguments

    from tests.unit.test_integrations_transformers import model, rows

    arguments = TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True, logging_steps=1)
    return {"Trainer": Trainer, "model": model(), "arguments": arguments, "rows": rows()}


GIVEN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "xgboost": _for_xgboost,
    "lightgbm": _for_lightgbm,
    "sklearn": _for_sklearn,
    "keras": _for_keras,
    "lightning": _for_lightning,
    "transformers": _for_transformers,
}
HEAVY = {"keras", "lightning", "transformers"}


def test_every_framework_has_an_example() -> None:
    assert {framework for _, framework in EXAMPLES} == GIVEN.keys()


@pytest.mark.parametrize(
    ("code", "framework"),
    [
        pytest.param(code, framework, id=f"{framework}-{number}", marks=[pytest.mark.heavy] * (framework in HEAVY))
        for number, (code, framework) in enumerate(EXAMPLES)
    ],
)
def test_an_example_runs_as_written(code: str, framework: str, spool: Path, tmp_path: Path) -> None:
    exec(compile(code, "producer/README.md", "exec"), GIVEN[framework](tmp_path))
    assert runtide.active_run() is None
    run = spooled_runs(spool)[0]
    assert (run.status, run.tags["runtide.framework"]) == ("FINISHED", framework)
    assert run.params
    assert run.points
