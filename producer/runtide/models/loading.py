"""Load a model directory: as what it was (`load_model`), or as something that predicts (`load_pyfunc`)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtide.models.enforcement import enforce
from runtide.models.errors import ModelDirectoryError, UnknownFlavorError
from runtide.models.flavors import Flavor, Trust, flavor_named, installed_flavors
from runtide.models.mlmodel import PYTHON_FUNCTION, MLmodel
from runtide.models.signature import ModelSignature

ALLOW_PICKLE = "RUNTIDE_ALLOW_PICKLE"


@dataclass(frozen=True, slots=True)
class PyfuncModel:
    """A model of any flavor behind one function."""

    path: Path
    document: MLmodel
    flavor: str
    signature: ModelSignature | None
    _model: Any
    _module: Flavor
    _function: str

    def predict(self, data: Any) -> Any:
        """The model's answer. With a signature, `data` is first fitted to it (`ModelInputError` when it does not)."""
        if self.signature is not None and self.signature.inputs is not None:
            data = enforce(data, self.signature.inputs)
        return self._module.predict(self._model, data, self._function)


def load_model(path: Path | str, *, allow_pickle: bool | None = None, trusted_types: Sequence[str] = ()) -> Any:
    """The model itself, as its framework knows it.

    `allow_pickle` (default: the environment's RUNTIDE_ALLOW_PICKLE=1) lets files run code while they are loaded;
    `trusted_types` are dotted names that may be built beyond those the flavor knows. What a model's own files declare
    to be trusted is not believed. Raises `UntrustedModelError`, `ModelDirectoryError`, `UnknownFlavorError`.
    """
    directory = Path(path)
    document = MLmodel.read(directory)
    name, module = _flavor_of(document)
    return module.load(directory, document.flavors[name], _trust(allow_pickle, trusted_types))


def load_pyfunc(
    path: Path | str, *, allow_pickle: bool | None = None, trusted_types: Sequence[str] = ()
) -> PyfuncModel:
    """The model behind `predict`, whatever its flavor. Parameters and errors as in `load_model`.

    The `loader_module` that the file names is never imported; the installed flavor loads.
    """
    directory = Path(path)
    document = MLmodel.read(directory)
    section = document.flavors.get(PYTHON_FUNCTION)
    if section is None:
        raise ModelDirectoryError(f"{directory}: the model has no python_function flavor, so it cannot predict")
    name, module = _flavor_of(document)
    model = module.load(directory, document.flavors[name], _trust(allow_pickle, trusted_types))
    function = _text(section, "predict_fn", "predict")
    return PyfuncModel(directory, document, name, document.model_signature, model, module, function)


def _flavor_of(document: MLmodel) -> tuple[str, Flavor]:
    native = [name for name in document.flavors if name != PYTHON_FUNCTION]
    for name in native:
        if name in installed_flavors():
            return name, flavor_named(name)
    raise UnknownFlavorError(
        f"The model has the flavor(s) {', '.join(native) or 'none'}, of which none is installed. "
        f"Installed: {', '.join(sorted(installed_flavors())) or 'none'}."
    )


def _trust(allow_pickle: bool | None, types: Sequence[str]) -> Trust:
    allowed = os.environ.get(ALLOW_PICKLE, "") in ("1", "true") if allow_pickle is None else allow_pickle
    return Trust(allow_pickle=allowed, types=types)


def _text(section: Mapping[str, Any], key: str, default: str) -> str:
    value = section.get(key, default)
    if not isinstance(value, str):
        raise ModelDirectoryError(f"'{key}' in the MLmodel file is {value!r}, not a text")
    return value
