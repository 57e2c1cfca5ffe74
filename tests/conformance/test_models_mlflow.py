"""Our model directories in MLflow's hands, and MLflow's in ours.

Needs a real mlflow: in this environment, or in another one whose interpreter RUNTIDE_TEST_MLFLOW_PYTHON names.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runtide.models import infer_signature, load_model, load_pyfunc, save_model

MLFLOW_PYTHON = os.environ.get("RUNTIDE_TEST_MLFLOW_PYTHON") or (
    sys.executable if importlib.util.find_spec("mlflow") else None
)
pytestmark = [
    pytest.mark.skipif(
        MLFLOW_PYTHON is None,
        reason="mlflow is not installed: install it, or set RUNTIDE_TEST_MLFLOW_PYTHON to an interpreter that has it",
    ),
    pytest.mark.slow,
]

DIGITS, LABELS = (part[:150] for part in load_digits(return_X_y=True))

LOAD_IN_MLFLOW = """
import json, sys
import mlflow, numpy as np
answers = {}
for name in sys.argv[2:]:
    path = f"{sys.argv[1]}/{name}"
    rows = json.load(open(f"{path}.rows.json"))
    model = mlflow.pyfunc.load_model(path)
    schema = model.metadata.get_input_schema()
    data = model.metadata.load_input_example(path) if name == "frame" else np.array(rows)
    answers[name] = {
        "pyfunc": model.predict(data).tolist(),
        "native": mlflow.sklearn.load_model(path).predict(data).tolist(),
        "inputs": json.loads(schema.to_json()),
        "uuid": model.metadata.model_uuid,
    }
print("ANSWERS" + json.dumps(answers))
"""

SAVE_IN_MLFLOW = """
import sys
import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
folder = sys.argv[1]
X, y = (part[:150] for part in load_digits(return_X_y=True))
linear = LogisticRegression(max_iter=1000, tol=0.1).fit(X, y)
mlflow.sklearn.save_model(linear, f"{folder}/linear", signature=infer_signature(X, linear.predict(X)), input_example=X[:2])
forest = RandomForestClassifier(n_estimators=3, random_state=0).fit(X, y)
mlflow.sklearn.save_model(forest, f"{folder}/forest", skops_trusted_types=["sklearn.tree._tree.Tree"])
mlflow.sklearn.save_model(linear, f"{folder}/cloudpickle", serialization_format="cloudpickle")
frame, target = load_iris(return_X_y=True, as_frame=True)
iris = LogisticRegression(max_iter=1000).fit(frame, target)
mlflow.sklearn.save_model(iris, f"{folder}/frame", signature=infer_signature(frame, target), metadata={"k": 1})
"""


def mlflow(program: str, *arguments: str) -> str:
    assert MLFLOW_PYTHON is not None
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    command = [MLFLOW_PYTHON, "-W", "ignore", "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_mlflow_loads_what_we_save(tmp_path: Path) -> None:
    models: dict[str, Any] = {
        "linear": LogisticRegression(max_iter=1000, tol=0.1),
        "sgd": SGDClassifier(),
        "mlp": MLPClassifier(max_iter=500, tol=1.0),
        "forest": RandomForestClassifier(n_estimators=2),
        "boosting": GradientBoostingClassifier(n_estimators=2, max_depth=2),
        "pipeline": make_pipeline(StandardScaler(), SGDClassifier()),
    }
    expected = {}
    for name, model in models.items():
        model.fit(DIGITS, LABELS)
        save_model(model, tmp_path / name, signature=infer_signature(DIGITS, model.predict(DIGITS)))
        (tmp_path / f"{name}.rows.json").write_text(json.dumps(DIGITS.tolist()))
        expected[name] = model.predict(DIGITS).tolist()
    frame, target = load_iris(return_X_y=True, as_frame=True)
    iris = LogisticRegression(max_iter=1000).fit(frame, target)
    save_model(iris, tmp_path / "frame", signature=infer_signature(frame, target), input_example=frame[:5])
    (tmp_path / "frame.rows.json").write_text("[]")
    expected["frame"] = iris.predict(frame[:5]).tolist()
    answers = json.loads(mlflow(LOAD_IN_MLFLOW, str(tmp_path), *expected).partition("ANSWERS")[2])
    assert {name: answer["pyfunc"] for name, answer in answers.items()} == expected
    assert {name: answer["native"] for name, answer in answers.items()} == expected
    assert [column["name"] for column in answers["frame"]["inputs"]] == list(frame.columns)


def test_we_load_what_mlflow_saves(tmp_path: Path) -> None:
    mlflow(SAVE_IN_MLFLOW, str(tmp_path))
    expected = LogisticRegression(max_iter=1000, tol=0.1).fit(DIGITS, LABELS).predict(DIGITS)
    linear = load_pyfunc(tmp_path / "linear")
    assert linear.signature == infer_signature(DIGITS, expected)
    np.testing.assert_array_equal(linear.predict(DIGITS), expected)
    np.testing.assert_array_equal(load_model(tmp_path / "cloudpickle", allow_pickle=True).predict(DIGITS), expected)
    forest = RandomForestClassifier(n_estimators=3, random_state=0).fit(DIGITS, LABELS)
    np.testing.assert_array_equal(load_pyfunc(tmp_path / "forest").predict(DIGITS), forest.predict(DIGITS))
    frame, target = load_iris(return_X_y=True, as_frame=True)
    iris = load_pyfunc(tmp_path / "frame")
    assert iris.signature == infer_signature(frame, target)
    assert iris.document.metadata == {"k": 1}
    assert (iris.predict(frame) == target).mean() > 0.9
