"""Without its framework, an integration says which extra brings it; every framework has one."""

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
FRAMEWORKS = {
    "keras": ("Keras 3", ("keras",)),
    "lightgbm": ("LightGBM", ("lightgbm",)),
    "lightning": ("PyTorch Lightning", ("lightning", "pytorch_lightning")),
    "sklearn": ("scikit-learn", ("sklearn",)),
    "transformers": ("Transformers", ("transformers",)),
    "xgboost": ("XGBoost", ("xgboost",)),
}


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_an_import_without_the_framework_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    framework, packages = FRAMEWORKS[module]
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"runtide.integrations.{module}", raising=False)
    with pytest.raises(ImportError, match=rf"needs {framework}.*pip install 'runtide\[{module}\]'"):
        importlib.import_module(f"runtide.integrations.{module}")


def test_every_framework_is_an_extra() -> None:
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert FRAMEWORKS.keys() <= extras.keys()
