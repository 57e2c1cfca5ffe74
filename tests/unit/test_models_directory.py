"""Model directories: the MLmodel file, the digest, saving whole or not at all, and loading only what is trusted."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from runtide.models import (
    MLmodel,
    ModelDirectoryError,
    ModelError,
    ModelInputError,
    UnknownFlavorError,
    UntrustedModelError,
    digest_directory,
    infer_signature,
    load_model,
    load_pyfunc,
    save_model,
)

DIGITS, LABELS = (part[:200] for part in load_digits(return_X_y=True))

TREES = [
    DecisionTreeClassifier(max_depth=4),
    RandomForestClassifier(n_estimators=3),
    ExtraTreesClassifier(n_estimators=3),
    GradientBoostingClassifier(n_estimators=2, max_depth=2),
    BaggingClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=2, max_features=0.5),
    AdaBoostClassifier(n_estimators=2),
    IsolationForest(n_estimators=2),
    IsolationForest(n_estimators=2, max_features=0.5),
    make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=2)),
]
OTHERS = [
    LogisticRegression(max_iter=1000, tol=0.1),
    SGDClassifier(),
    MLPClassifier(max_iter=500, tol=1.0),
    MLPClassifier(max_iter=500, tol=1.0, solver="sgd"),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


@pytest.fixture(scope="module")
def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000, tol=0.1).fit(DIGITS, LABELS)


@pytest.mark.parametrize("model", TREES + OTHERS, ids=lambda model: type(model).__name__)
def test_common_models_need_no_extra_trust(tmp_path: Path, model: Any) -> None:
    model.fit(DIGITS, LABELS)
    info = save_model(model, tmp_path / "model", signature=infer_signature(DIGITS, model.predict(DIGITS)))
    assert info.flavor == "sklearn"
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(DIGITS), model.predict(DIGITS))
    np.testing.assert_array_equal(load_pyfunc(tmp_path / "model").predict(DIGITS.tolist()), model.predict(DIGITS))


def test_a_saved_model_has_mlflows_files_and_keys(tmp_path: Path, logistic: LogisticRegression) -> None:
    info = save_model(logistic, tmp_path / "model", input_example=DIGITS[:1], metadata={"team": "ours"})
    assert {entry.path for entry in info.manifest} == {
        "MLmodel",
        "conda.yaml",
        "input_example.json",
        "model.skops",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
    }
    document = yaml.safe_load((tmp_path / "model" / "MLmodel").read_text())
    assert document["flavors"]["sklearn"]["pickled_model"] == "model.skops"
    assert document["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert document["flavors"]["python_function"]["loader_module"] == "mlflow.sklearn"
    assert document["saved_input_example_info"]["type"] == "ndarray"
    assert document["metadata"] == {"team": "ours"}
    assert json.loads((tmp_path / "model" / "serving_input_example.json").read_text()) == {
        "inputs": DIGITS[:1].tolist()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_frame_is_fitted_to_the_signature(tmp_path: Path) -> None:
    frame, target = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=1000).fit(frame, target)
    save_model(model, tmp_path / "model", signature=infer_signature(frame, target), input_example=frame[:2])
    loaded = load_pyfunc(tmp_path / "model")
    shuffled = frame[frame.columns[::-1]].assign(spare=1)
    np.testing.assert_array_equal(loaded.predict(shuffled), model.predict(frame))
    with pytest.raises(ModelInputError, match="petal"):
        loaded.predict(frame.drop(columns=["petal width (cm)"]))


def test_types_nobody_vouches_for_are_listed_and_refused(tmp_path: Path) -> None:
    model = HistGradientBoostingClassifier(max_iter=2).fit(DIGITS, LABELS)
    with pytest.raises(UntrustedModelError, match="TreePredictor") as refusal:
        save_model(model, tmp_path / "model")
    assert not list(tmp_path.iterdir()), "nothing is left of a model that was not saved"
    name = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    assert f"trusted_types=['{name}']" in str(refusal.value)
    save_model(model, tmp_path / "model", trusted_types=[name])
    with pytest.raises(UntrustedModelError, match="TreePredictor"):
        load_model(tmp_path / "model")  # What the directory itself declares is not believed.
    load_model(tmp_path / "model", trusted_types=[name])


def test_a_model_that_skops_cannot_express_is_refused(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression(max_iter=1000)).fit(DIGITS, LABELS)
    name = f"{__name__}.<lambda>"
    with pytest.raises(UntrustedModelError, match="<lambda>"):
        save_model(model, tmp_path / "model")
    with pytest.raises(ModelError, match="importable by name"):
        save_model(model, tmp_path / "model", trusted_types=[name])
    assert not list(tmp_path.iterdir())


def test_unknown_models_and_flavors_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownFlavorError, match=r"type builtins\.dict\. Installed: .*sklearn"):
        save_model({}, tmp_path / "model")
    with pytest.raises(UnknownFlavorError, match="'keras'"):
        save_model({}, tmp_path / "model", flavor="keras")


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path, logistic: LogisticRegression) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ModelDirectoryError, match="not empty"):
        save_model(logistic, tmp_path)
    assert (tmp_path / "precious").read_text() == "data"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def pickled(folder: Path, model: object, serialization: str = "cloudpickle") -> Path:
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    section = {"pickled_model": "model.pkl", "serialization_format": serialization, "sklearn_version": "1.0"}
    function = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "python_version": "3.11"}
    MLmodel(flavors={"sklearn": section, "python_function": function}).write(folder)
    return folder


def test_pickle_is_not_touched_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickled(tmp_path, Bomb())
    with pytest.raises(UntrustedModelError, match=r"runs whatever code.*allow_pickle=True or RUNTIDE_ALLOW_PICKLE=1"):
        load_model(tmp_path)
    with pytest.raises(UntrustedModelError):
        load_pyfunc(tmp_path)
    assert not Path("exploded").exists()


def test_pickle_is_loaded_for_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logistic: LogisticRegression
) -> None:
    pickled(tmp_path, logistic)
    assert load_model(tmp_path, allow_pickle=True).predict(DIGITS[:1]) == logistic.predict(DIGITS[:1])
    monkeypatch.setenv("RUNTIDE_ALLOW_PICKLE", "1")
    assert load_pyfunc(tmp_path).predict(DIGITS[:1]) == logistic.predict(DIGITS[:1])
    with pytest.raises(UntrustedModelError):
        load_model(tmp_path, allow_pickle=False)


@pytest.mark.parametrize("attribute", ["left_child", "right_child", "feature"])
@pytest.mark.parametrize("value", [10**6, -5])
def test_a_tree_with_indices_that_lead_out_is_refused(tmp_path: Path, attribute: str, value: int) -> None:
    model = DecisionTreeClassifier(max_depth=3).fit(DIGITS, LABELS)
    state = model.tree_.__getstate__()
    state["nodes"][attribute][0] = value
    model.tree_.__setstate__(state)
    save_model(model, tmp_path / "model")
    with pytest.raises(ModelDirectoryError, match="tampered"):
        load_model(tmp_path / "model")


def test_a_tree_that_never_ends_is_refused(tmp_path: Path) -> None:
    model = DecisionTreeClassifier(max_depth=3).fit(DIGITS, LABELS)
    state = model.tree_.__getstate__()
    state["nodes"]["left_child"][1] = 0
    model.tree_.__setstate__(state)
    save_model(model, tmp_path / "model")
    with pytest.raises(ModelDirectoryError, match="tampered"):
        load_model(tmp_path / "model")


def test_an_ensemble_that_lies_about_its_width_is_refused(tmp_path: Path) -> None:
    model = RandomForestClassifier(n_estimators=2).fit(DIGITS, LABELS)
    model.n_features_in_ = 3
    save_model(model, tmp_path / "model")
    with pytest.raises(ModelDirectoryError, match="width of a member"):
        load_model(tmp_path / "model")


def test_an_mlmodel_file_survives_being_read_and_written(tmp_path: Path) -> None:
    text = "flavors:\n  mine: {a: 1}\nmodel_uuid: u\nutc_time_created: t\nunheard_of: {x: [1, 2]}\n"
    (tmp_path / "MLmodel").write_text(text)
    MLmodel.read(tmp_path).write(tmp_path)
    document = yaml.safe_load((tmp_path / "MLmodel").read_text())
    assert document["unheard_of"] == {"x": [1, 2]}
    assert document["flavors"] == {"mine": {"a": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "flavors: 3",
        "flavors: {a: 1}",
        "{",
        "\x00",
        "flavors: {}\nsignature: {inputs: 5}",
        "a: &a [1, 2]\nflavors: {b: {c: *a}}",
        "!!python/object/apply:os.system ['true']",
        "[" * 100_000,
        b"\xff\xfe\xff",
        "x" * (5 * 1024 * 1024),
    ],
    ids=range(12),
)
def test_nonsense_is_not_an_mlmodel_file(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "MLmodel").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ModelDirectoryError):
        load_pyfunc(tmp_path)


def test_a_directory_without_the_file_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelDirectoryError, match="is not a model"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "link", "sub/../../secret", "absent", "", None, 5])
def test_a_flavor_cannot_name_a_file_outside(tmp_path: Path, name: object) -> None:
    (tmp_path / "secret").write_text("secret")
    model = tmp_path / "model"
    model.mkdir()
    (model / "link").symlink_to(tmp_path / "secret")
    MLmodel(flavors={"sklearn": {"pickled_model": name, "serialization_format": "skops"}}).write(model)
    with pytest.raises(ModelDirectoryError):
        load_model(model)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_data_file_is_an_error_of_ours(tmp_path: Path, logistic: LogisticRegression, damage: str) -> None:
    save_model(logistic, tmp_path / "model")
    path = tmp_path / "model" / "model.skops"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 0xFF
    path.write_bytes({"cut": bytes(data[:1000]), "flip": bytes(data), "empty": b""}[damage])
    with pytest.raises(ModelDirectoryError):
        load_model(tmp_path / "model")


def test_the_digest_is_of_names_and_content_only(tmp_path: Path) -> None:
    for name, order in (("one", "ab"), ("two", "ba")):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        for file in order:
            (folder / "sub" / file).write_text(file)
    os.utime(tmp_path / "one" / "sub" / "a", (0, 0))
    (tmp_path / "one" / "sub" / "a").chmod(0o600)
    digest, manifest = digest_directory(tmp_path / "one")
    assert digest == digest_directory(tmp_path / "two")[0]
    assert digest == "ee786b5da9c03821951ab789bb87f36695b4f6d9c48c53be6d910454a4c623e5"
    assert [(entry.path, entry.size) for entry in manifest] == [("sub/a", 1), ("sub/b", 1)]
    (tmp_path / "one" / "sub" / "a").write_text("c")
    assert digest_directory(tmp_path / "one")[0] != digest


def test_the_digest_tells_renames_and_splits_apart(tmp_path: Path) -> None:
    digests = set()
    for number, files in enumerate([{"a": "xy"}, {"a": "x", "b": "y"}, {"b": "xy"}, {"a/b": "xy"}, {"ab": "xy"}]):
        for name, text in files.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        digests.add(digest_directory(tmp_path / str(number))[0])
    assert len(digests) == 5


def test_links_and_special_files_have_no_digest(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ModelDirectoryError, match="links are refused"):
        digest_directory(tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelDirectoryError):
        digest_directory(tmp_path)


def test_importing_the_package_imports_no_framework() -> None:
    program = (
        "import sys, runtide.models; print(*(set(sys.modules) & {'sklearn', 'pandas', 'skops', 'scipy', 'mlflow'}))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
