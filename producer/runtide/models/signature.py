"""What a model takes and returns, in MLflow's words (https://mlflow.org/docs/latest/ml/model/signatures/)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# MLflow's column types and the NumPy type each is handed to the model as.
COLUMN_TYPES: Mapping[str, str] = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "object",
    "binary": "object",
    "datetime": "datetime64[ns]",
}


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column (MLflow: ColSpec). `type` is one of `COLUMN_TYPES`, or a composite one that is kept and not checked.

    `extra` holds what a composite type says beside its name (`items`, `properties`).
    """

    type: str
    name: str | None = None
    required: bool = True
    extra: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """In MLflow's key order."""
        named = {} if self.name is None else {"name": self.name}
        return {"type": self.type, **(self.extra or {}), **named, "required": self.required}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An array of a NumPy type; -1 in its shape is any length."""

    dtype: str
    shape: tuple[int, ...]
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """In MLflow's key order."""
        named = {} if self.name is None else {"name": self.name}
        return {"type": "tensor", "tensor-spec": {"dtype": self.dtype, "shape": list(self.shape)}, **named}


Schema = Sequence[ColumnSpec] | Sequence[TensorSpec]


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """Inputs, outputs and parameters (the last kept as MLflow's JSON text)."""

    inputs: Schema | None = None
    outputs: Schema | None = None
    params: str | None = None

    def to_strings(self) -> dict[str, str | None]:
        """MLflow's form: a JSON text for each part."""
        return {
            "inputs": None if self.inputs is None else json.dumps([spec.to_dict() for spec in self.inputs]),
            "outputs": None if self.outputs is None else json.dumps([spec.to_dict() for spec in self.outputs]),
            "params": self.params,
        }

    @classmethod
    def from_strings(cls, inputs: str | None, outputs: str | None, params: str | None = None) -> "ModelSignature":
        """Read MLflow's form. Raises ValueError, TypeError or KeyError for what is not a signature."""
        return cls(_parse(inputs), _parse(outputs), params)


def infer_signature(inputs: object, outputs: object = None) -> ModelSignature:
    """The signature of a model that was given `inputs` and returned `outputs`, as MLflow's `infer_signature` has it.

    A DataFrame or a named Series gives columns, an array (dense or sparse) a tensor, a list of scalars one unnamed
    column. Raises TypeError for anything else.
    """
    return ModelSignature(infer_schema(inputs), None if outputs is None else infer_schema(outputs))


def infer_schema(data: object) -> Schema:
    """The schema of one side; see `infer_signature`."""
    if isinstance(data, np.ndarray):
        return (_tensor(data.dtype, data.shape),)
    if _is_pandas(data, "DataFrame"):
        frame: pd.DataFrame = data  # narrowed by name, so that pandas need not be imported
        return tuple(_column(frame[name], str(name)) for name in frame.columns)
    if _is_pandas(data, "Series"):
        series: pd.Series = data
        return (_column(series, None if series.name is None else str(series.name)),)
    if isinstance(data, Mapping) and data and all(isinstance(value, np.ndarray) for value in data.values()):
        return tuple(_tensor(value.dtype, value.shape, str(name)) for name, value in data.items())
    if isinstance(data, Sequence) and not isinstance(data, str | bytes) and data:
        return (ColumnSpec(_scalar_type(data)),)
    if hasattr(data, "tocsr") and hasattr(data, "dtype") and hasattr(data, "shape"):
        return (_tensor(np.dtype(data.dtype), tuple(data.shape)),)
    raise TypeError(
        f"Cannot infer a signature from {type(data).__name__}: give a pandas DataFrame or Series, a NumPy array, a "
        "dictionary of arrays, or a list of numbers or texts."
    )


def _is_pandas(data: object, name: str) -> bool:
    return any(base.__name__ == name and base.__module__.partition(".")[0] == "pandas" for base in type(data).__mro__)


def _tensor(dtype: np.dtype[Any], shape: tuple[int, ...], name: str | None = None) -> TensorSpec:
    text = {"U": "str", "S": "bytes"}.get(dtype.kind, dtype.name)
    return TensorSpec(text, (-1, *shape[1:]), name)


def _column(series: "pd.Series", name: str | None) -> ColumnSpec:
    missing = bool(series.isna().any())
    type_name = _column_type(series.dtype)
    if type_name is None:
        present = series.dropna().tolist()
        if not present:
            raise TypeError(f"Column {name!r} holds no value to infer a type from")
        type_name = _scalar_type(present)
    return ColumnSpec(type_name, name, required=not missing)


def _column_type(dtype: Any) -> str | None:
    """MLflow's name for a NumPy or pandas type; None where the values must be looked at."""
    kind = dtype.kind
    if kind in "iu":
        signed = kind == "i"
        if dtype.itemsize < 4 or (signed and dtype.itemsize == 4):
            return "integer"
        if dtype.itemsize < 8 or signed:
            return "long"
        raise TypeError("uint64 has no lossless column type: convert it to int64 or float64")
    if kind == "f":
        return "float" if dtype.itemsize <= 4 else "double"
    return {"b": "boolean", "U": "string", "S": "binary", "M": "datetime"}.get(kind)


def _scalar_type(values: Sequence[object]) -> str:
    kinds = {_type_of(value) for value in values}
    if len(kinds) != 1:
        raise TypeError(f"Values of several types in one column: {', '.join(sorted(kinds))}")
    return kinds.pop()


def _type_of(value: object) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bytes | bytearray):
        return "binary"
    array = np.asarray(value)
    found = _column_type(array.dtype) if array.ndim == 0 else None
    if found is None:
        raise TypeError(f"No column type for {type(value).__name__}")
    return found


def _parse(text: str | None) -> Schema | None:
    if text is None:
        return None
    items = json.loads(text)
    if not isinstance(items, list):
        raise TypeError(f"a schema is a list, not {type(items).__name__}")
    if any(item["type"] == "tensor" for item in items):
        return tuple(_parse_tensor(item) for item in items)
    return tuple(_parse_column(item) for item in items)


def _parse_tensor(item: Mapping[str, Any]) -> TensorSpec:
    spec = item["tensor-spec"]
    np.dtype(spec["dtype"])  # Raises TypeError for a name NumPy does not know.
    return TensorSpec(str(spec["dtype"]), tuple(int(length) for length in spec["shape"]), item.get("name"))


def _parse_column(item: Mapping[str, Any]) -> ColumnSpec:
    # Before 2.0 MLflow wrote `optional`; composite types bring keys of their own.
    required = bool(item.get("required", not item.get("optional", False)))
    extra = {key: value for key, value in item.items() if key not in ("type", "name", "required", "optional")}
    return ColumnSpec(str(item["type"]), item.get("name"), required, extra or None)
