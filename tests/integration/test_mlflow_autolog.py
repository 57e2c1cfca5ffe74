"""``mlflow.autolog()`` of gradient boosting, offline: what the frameworks' own hooks log lies in the spool."""

import importlib.util
import json
from pathlib import Path

import pytest

from runtide.spool.export import exported
from runtide.sync import find_spools
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ArtifactLogged, ModelLogged, ParamsLogged, RunEnded
from tests.integration.sdk_log import child, finished

pytestmark = pytest.mark.slow

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_TRACKING_URI": "runtide://"}

PROGRAMS = {
    "lightgbm": """
import lightgbm, mlflow
from sklearn.datasets import load_digits
mlflow.autolog()
X, y = load_digits(n_class=2, return_X_y=True)
train = lightgbm.Dataset(X[:250], y[:250])
valid = lightgbm.Dataset(X[250:], y[250:], reference=train)
parameters = {"objective": "binary", "verbose": -1, "num_leaves": 7}
lightgbm.train(parameters, train, num_boost_round=12, valid_sets=[valid], valid_names=["valid"])
print(mlflow.last_active_run().data.metrics["valid-binary_logloss"])
""",
    "xgboost": """
import mlflow, xgboost
from sklearn.datasets import load_digits
mlflow.autolog()
X, y = load_digits(n_class=2, return_X_y=True)
train, valid = xgboost.DMatrix(X[:250], y[:250]), xgboost.DMatrix(X[250:], y[250:])
parameters = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}
xgboost.train(parameters, train, num_boost_round=12, evals=[(valid, "valid")], verbose_eval=False)
print(mlflow.last_active_run().data.metrics["valid-logloss"])
""",
}


@pytest.mark.parametrize("framework", sorted(PROGRAMS))
def test_every_round_and_the_model_are_logged(framework: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    code, out, errors = finished(child(PROGRAMS[framework], broker="", spool=tmp_path, variables=QUIET), 150)
    assert code == 0, errors
    bodies = [event.body for event in exported(find_spools([tmp_path]))]
    points = {
        (body.keys[key], step): value
        for body in bodies
        if isinstance(body, MetricsLogged)
        for key, step, value in zip(body.key_index.tolist(), body.step.tolist(), body.value.tolist(), strict=True)
    }
    curve = [value for (key, _), value in sorted(points.items()) if key in ("valid-binary_logloss", "valid-logloss")]
    assert len(curve) == 12
    assert curve[-1] < curve[0] / 2, "in the order of the rounds"
    assert curve[-1] == float(out)
    params = {key: value for body in bodies if isinstance(body, ParamsLogged) for key, value in body.params.items()}
    assert params["num_boost_round"] == "12"
    (model,) = [body for body in bodies if isinstance(body, ModelLogged)]
    assert framework in model.flavors
    assert json.loads(model.signature)
    paths = {body.path for body in bodies if isinstance(body, ArtifactLogged)}
    assert f"models/{model.model_id}/MLmodel" in paths
    assert any("feature_importance" in path for path in paths)
    assert [body.status for body in bodies if isinstance(body, RunEnded)] == ["FINISHED"]
