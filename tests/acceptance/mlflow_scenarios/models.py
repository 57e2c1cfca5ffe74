"""Models: scikit-learn's flavor and autologging, logged models, and loading by every kind of address."""

# What may be None by its type is there, or the scenario fails, which is its point.
# mypy: disable-error-code="union-attr, operator, attr-defined"

import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from tests.acceptance.mlflow_scenarios.expectations import MAJOR, needs, needs_client, refused, unique


def _trained() -> tuple[Any, Any]:
    """Return a classifier and what it was fit on."""
    needs("sklearn", "pandas")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    x, y = load_iris(return_X_y=True, as_frame=True)
    return LogisticRegression(max_iter=200).fit(x, y), x


def _log(model: Any, name: str, **more: Any) -> Any:
    """Log a model under a name, which MLflow 2 calls its path; what it needs is told, not found out, which takes long."""
    more = {"pip_requirements": ["scikit-learn"]} | more
    if MAJOR > 2:
        # What may be loaded without asking is of no concern here.
        return mlflow.sklearn.log_model(model, name=name, serialization_format="cloudpickle", **more)
    return mlflow.sklearn.log_model(model, name, **more)


def a_model_is_logged_registered_and_loaded_by_alias() -> None:
    model, x = _trained()
    name = unique("iris")
    mlflow.set_experiment(unique("registering"))
    with mlflow.start_run() as run:
        logged = _log(model, "model", registered_model_name=name, input_example=x[:2])
    client = MlflowClient()
    client.set_registered_model_alias(name, "champion", "1")
    version = client.get_model_version_by_alias(name, "champion")
    assert (version.version, version.run_id, version.status) == ("1", run.info.run_id, "READY")
    wanted = list(model.predict(x))
    for address in (f"models:/{name}@champion", f"models:/{name}/1", f"models:/{name}/latest", logged.model_uri):
        assert list(mlflow.pyfunc.load_model(address).predict(x)) == wanted, address
    assert list(mlflow.sklearn.load_model(f"models:/{name}@champion").predict(x)) == wanted
    assert list(mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(x)) == wanted
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert loaded.metadata.run_id == run.info.run_id
    assert loaded.metadata.signature.inputs.input_names() == list(x.columns)
    with refused("INVALID_PARAMETER_VALUE"):
        mlflow.pyfunc.load_model(f"models:/{name}@nobody")


def a_logged_model_of_a_run_is_registered_later() -> None:
    model, x = _trained()
    name = unique("later")
    mlflow.set_experiment(unique("later"))
    with mlflow.start_run() as run:
        _log(model, "model")
    first = mlflow.register_model(f"runs:/{run.info.run_id}/model", name, tags={"from": "run"})
    second = mlflow.register_model(f"runs:/{run.info.run_id}/model", name)
    assert (first.version, first.run_id, first.tags, second.version) == ("1", run.info.run_id, {"from": "run"}, "2")
    client = MlflowClient()
    client.transition_model_version_stage(name, "2", "Production")
    assert list(mlflow.pyfunc.load_model(f"models:/{name}/Production").predict(x)) == list(model.predict(x))
    with tempfile.TemporaryDirectory() as target:
        local = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/2", dst_path=target))
        assert (local / "MLmodel").is_file()


def a_model_is_known_by_its_id() -> None:
    needs_client(3)
    model, x = _trained()
    experiment = mlflow.set_experiment(unique("by id"))
    with mlflow.start_run() as run:
        mlflow.log_metric("before", 0.5)
        info = _log(model, "my-model", params={"depth": "3"}, tags={"stage": "test"}, model_type="classifier")
        mlflow.log_metric("accuracy", 0.9, model_id=info.model_id, step=2)
    found = mlflow.get_logged_model(info.model_id)
    assert (found.name, found.model_id, found.source_run_id) == ("my-model", info.model_id, run.info.run_id)
    assert (found.experiment_id, str(found.status), found.model_type) == (
        experiment.experiment_id,
        "READY",
        "classifier",
    )
    assert found.params == {"depth": "3"}
    assert found.tags["stage"] == "test"
    assert {metric.key: metric.value for metric in found.metrics}["accuracy"] == 0.9
    assert list(mlflow.pyfunc.load_model(f"models:/{info.model_id}").predict(x)) == list(model.predict(x))
    (output,) = mlflow.get_run(run.info.run_id).outputs.model_outputs
    assert output.model_id == info.model_id
    names = {Path(one.path).name for one in MlflowClient().list_logged_model_artifacts(info.model_id)}
    assert {"MLmodel", "requirements.txt"} <= names
    assert mlflow.last_logged_model().model_id == info.model_id


def logged_models_are_searched() -> None:
    needs_client(3)
    number = mlflow.set_experiment(unique("logged")).experiment_id
    client = MlflowClient()
    made = []
    for place in range(5):
        with mlflow.start_run(run_name=f"run {place}"):
            one = mlflow.initialize_logged_model(
                f"m{place}", params={"depth": str(place)}, tags={"even": str(place % 2 == 0)}
            )
            mlflow.log_metric("score", place / 10, model_id=one.model_id)
            mlflow.finalize_logged_model(one.model_id, "READY" if place else "FAILED")
            made.append(one.model_id)

    def names(given: str, **more: Any) -> list[str]:
        return [one.name for one in client.search_logged_models([number], given, **more)]

    assert sorted(names("")) == ["m0", "m1", "m2", "m3", "m4"]
    assert names("name = 'm3'") == ["m3"]
    assert sorted(names("params.depth = '2'")) == ["m2"]
    assert sorted(names("tags.even = 'True' AND metrics.score > 0.1")) == ["m2", "m4"]
    assert sorted(names("name LIKE 'm%' AND metrics.score <= 0.1")) == ["m0", "m1"]
    by_score = [{"field_name": "metrics.score", "ascending": False}]
    assert names("", order_by=by_score) == ["m4", "m3", "m2", "m1", "m0"]
    first = client.search_logged_models([number], order_by=by_score, max_results=2)
    second = client.search_logged_models([number], order_by=by_score, max_results=2, page_token=first.token)
    assert [one.name for one in [*first, *second]] == ["m4", "m3", "m2", "m1"]
    found = mlflow.search_logged_models([number], output_format="list")
    assert {one.model_id for one in found} == set(made)


def logged_models_are_changed_and_deleted() -> None:
    needs_client(3)
    number = mlflow.set_experiment(unique("changed")).experiment_id
    client = MlflowClient()
    one = client.create_logged_model(number, name="alone", tags={"a": "1"}, params={"p": "1"})
    assert (str(one.status), one.source_run_id or "") == ("PENDING", "")
    client.set_logged_model_tags(one.model_id, {"b": "2", "a": "3"})
    client.log_model_params(one.model_id, {"q": "2"})
    client.delete_logged_model_tag(one.model_id, "b")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_logged_model_tag(one.model_id, "b")
    found = client.finalize_logged_model(one.model_id, "READY")
    assert (str(found.status), found.tags, found.params) == ("READY", {"a": "3"}, {"p": "1", "q": "2"})
    client.delete_logged_model(one.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_logged_model(one.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_logged_model("m-" + "0" * 32)


def autologging_keeps_a_fit() -> None:
    needs("sklearn", "pandas", "matplotlib")
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    mlflow.set_experiment(unique("autolog"))
    mlflow.sklearn.autolog(log_datasets=True, silent=True)
    try:
        with mlflow.start_run() as run:
            model = LogisticRegression(max_iter=30).fit(x[:300], y[:300])
            score = model.score(x[300:400], y[300:400])
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["max_iter"] == "30"
    assert found.data.metrics["training_accuracy_score"] > 0.9
    assert score in found.data.metrics.values(), "what is scored afterwards is kept too"
    assert found.data.tags["estimator_name"] == "LogisticRegression"
    assert {tag.value for one in found.inputs.dataset_inputs for tag in one.tags} >= {"train"}
    loaded = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert list(loaded.predict(x[:20])) == list(model.predict(x[:20]))


def autologging_keeps_a_grid_search() -> None:
    needs("sklearn", "pandas", "matplotlib")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    experiment = mlflow.set_experiment(unique("grid"))
    mlflow.sklearn.autolog(silent=True, log_models=False)
    try:
        with mlflow.start_run() as run:
            search = GridSearchCV(DecisionTreeClassifier(random_state=1), {"max_depth": [1, 2, 3]}, cv=2)
            search.fit(*load_iris(return_X_y=True))
    finally:
        mlflow.sklearn.autolog(disable=True)
    parent = mlflow.get_run(run.info.run_id)
    assert parent.data.params["best_max_depth"] == str(search.best_params_["max_depth"])
    assert parent.data.metrics["best_cv_score"] == search.best_score_
    children = mlflow.search_runs(
        [experiment.experiment_id],
        f"tags.mlflow.parentRunId = '{run.info.run_id}' and metrics.mean_test_score > 0.1",
        order_by=["params.max_depth"],
        output_format="list",
    )
    assert [child.data.params["max_depth"] for child in children] == ["1", "2", "3"]
    listed = {one.path for one in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
    assert "cv_results.csv" in listed


def autologging_keeps_a_boosting() -> None:
    needs_client(3)
    needs("xgboost", "sklearn", "matplotlib")
    import numpy as np
    import xgboost

    rows = np.arange(200.0).reshape(100, 2)
    mlflow.set_experiment(unique("boosting"))
    mlflow.xgboost.autolog(silent=True)
    try:
        with mlflow.start_run() as run:
            data = xgboost.DMatrix(rows, label=rows[:, 0] > 100)
            given = {"objective": "binary:logistic", "max_depth": 2}
            model = xgboost.train(given, data, num_boost_round=5, evals=[(data, "train")], verbose_eval=False)
    finally:
        mlflow.xgboost.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.params["max_depth"]) == ("FINISHED", "2")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train-logloss")
    assert [point.step for point in history] == [0, 1, 2, 3, 4]
    assert "feature_importance_weight.json" in {
        one.path for one in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)
    }
    (kept,) = found.outputs.model_outputs
    loaded = mlflow.xgboost.load_model(f"models:/{kept.model_id}")
    assert list(loaded.predict(data)) == list(model.predict(data))


def a_python_model_is_logged_and_evaluated() -> None:
    needs("pandas")
    import pandas as pd

    class Doubles(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined,unused-ignore]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["x"] * 2

    mlflow.set_experiment(unique("python"))
    with mlflow.start_run() as run:
        if MAJOR > 2:
            mlflow.pyfunc.log_model(name="doubles", python_model=Doubles(), pip_requirements=[])
        else:
            mlflow.pyfunc.log_model("doubles", python_model=Doubles(), pip_requirements=[])
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/doubles")
    assert list(loaded.predict(pd.DataFrame({"x": [1, 2]}))) == [2, 4]


def a_table_of_predictions_is_evaluated() -> None:
    needs("sklearn", "pandas", "matplotlib")
    import pandas as pd

    mlflow.set_experiment(unique("evaluated"))
    numbers = [float(number) for number in range(20)]
    table = pd.DataFrame(
        {"x": numbers, "wanted": [2 * one for one in numbers], "found": [2 * one + 1 for one in numbers]}
    )
    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(
            data=table, targets="wanted", predictions="found", model_type="regressor", evaluators="default"
        )
    assert result.metrics["mean_absolute_error"] == 1.0
    assert mlflow.get_run(run.info.run_id).data.metrics["mean_absolute_error"] == 1.0


def prompts_are_kept_apart_from_models() -> None:
    needs_client(3)
    needs("mlflow.genai")
    name = unique("greeting")
    first = mlflow.genai.register_prompt(name=name, template="Hello {{who}}", commit_message="first", tags={"a": "b"})
    second = mlflow.genai.register_prompt(name=name, template="Hi {{who}}")
    assert (int(first.version), int(second.version)) == (1, 2)
    mlflow.genai.set_prompt_alias(name, "live", 1)
    assert mlflow.genai.load_prompt(f"prompts:/{name}@live").format(who="Ada") == "Hello Ada"
    assert mlflow.genai.load_prompt(f"prompts:/{name}/2").template == "Hi {{who}}"
    assert [one.name for one in mlflow.genai.search_prompts(filter_string=f"name = '{name}'")] == [name]
    assert [one.name for one in mlflow.search_registered_models(filter_string=f"name = '{name}'")] == []
