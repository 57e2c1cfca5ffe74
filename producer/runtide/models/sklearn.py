"""scikit-learn models, as `mlflow.sklearn` lays them out: skops by default, pickle only for who asks to load it."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtide.models.errors import ModelDirectoryError, ModelError, UntrustedModelError
from runtide.models.flavors import SavedFlavor, Trust
from runtide.models.mlmodel import file_below

_DATA_FILE = "model.skops"
_PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "skops")

# Types that skops does not trust by itself and that we load: the optimizers are plain attribute holders that only
# `fit` uses; of a Tree, whose raw node indices scikit-learn follows unchecked, every index is checked after loading.
KNOWN_TYPES = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)


def matches(model: object) -> bool:
    """Whether it is a scikit-learn estimator (or another library's that derives from one)."""
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def save(model: Any, path: Path, trust: Trust) -> SavedFlavor:
    """Write `model.skops`. Types beyond skops' own and `KNOWN_TYPES` must be in `trust.types`.

    Raises `UntrustedModelError` with the list of the others, `ModelError` when skops cannot express the model.
    """
    import skops.io

    data_path = path / _DATA_FILE
    try:
        skops.io.dump(model, data_path)
        untrusted = skops.io.get_untrusted_types(file=data_path)
        _refuse_untrusted(untrusted, trust, f"this {type(model).__name__}")
        skops.io.load(data_path, trusted=untrusted)  # What cannot be loaded here cannot be loaded anywhere.
    except UntrustedModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"skops cannot express this {type(model).__name__}: {error}. Functions and classes must be importable by "
            "name (not lambdas, not defined in a notebook)."
        ) from error
    configuration = {
        "code": None,
        "pickled_model": _DATA_FILE,
        "serialization_format": "skops",
        "sklearn_version": importlib.metadata.version("scikit-learn"),
        # MLflow reads the list from here, where it must be complete; we never do.
        "skops_trusted_types": sorted(untrusted) or None,
    }
    python_function = {
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.sklearn",
        "model_path": _DATA_FILE,
        "predict_fn": "predict",
        "python_version": platform.python_version(),
    }
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES]
    return SavedFlavor(configuration, python_function if hasattr(model, "predict") else None, requirements)


def load(path: Path, configuration: Mapping[str, Any], trust: Trust) -> Any:
    """The estimator. Raises `UntrustedModelError` for pickle and for types nobody vouches for."""
    data_path = file_below(path, configuration, "pickled_model")
    serialization = configuration.get("serialization_format", "pickle")
    match serialization:
        case "skops":
            return _load_skops(data_path, trust)
        case "pickle" | "cloudpickle":
            return _load_pickle(data_path, serialization, trust)
    raise ModelDirectoryError(
        f"{path}: unknown serialization_format {serialization!r}; known: skops, cloudpickle, pickle"
    )


def predict(model: Any, data: Any, function: str) -> Any:
    """Call the estimator's `predict`, `predict_proba` or what else `function` names."""
    if function not in ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "score"):
        raise ModelDirectoryError(f"predict_fn {function!r} is not one that scikit-learn models are served by")
    return getattr(model, function)(data)


def _load_skops(data_path: Path, trust: Trust) -> Any:
    import skops.io

    from runtide.models.sklearn_trees import check_trees

    try:
        untrusted = skops.io.get_untrusted_types(file=data_path)
        _refuse_untrusted(untrusted, trust, str(data_path))
        model = skops.io.load(data_path, trusted=untrusted)
    except UntrustedModelError:
        raise
    except Exception as error:
        raise ModelDirectoryError(f"{data_path} cannot be read as a skops file: {error}") from error
    check_trees(model)
    return model


def _load_pickle(data_path: Path, serialization: str, trust: Trust) -> Any:
    if not trust.allow_pickle:
        raise UntrustedModelError(
            f"{data_path} is a {serialization} file: loading it runs whatever code its author put in. If you trust the "
            "author, load it with allow_pickle=True or RUNTIDE_ALLOW_PICKLE=1, and save it anew (as skops)."
        )
    import pickle

    with data_path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the caller asked for it; cloudpickle's files are read by pickle


def _refuse_untrusted(found: list[str], trust: Trust, what: str) -> None:
    refused = sorted(set(found) - set(KNOWN_TYPES) - set(trust.types))
    if refused:
        raise UntrustedModelError(
            f"{what} contains types that nobody vouches for: {', '.join(refused)}. If you know that building them from a "
            f"file is harmless, pass trusted_types={refused!r}."
        )
