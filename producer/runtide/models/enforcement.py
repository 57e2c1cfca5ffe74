"""Fit what a caller sends to a model's signature, or say what does not fit. Only conversions that lose nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runtide.models.errors import ModelInputError
from runtide.models.signature import COLUMN_TYPES, ColumnSpec, Schema, TensorSpec

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 10


def enforce(data: Any, schema: Schema) -> Any:
    """`data` as the schema wants it: a DataFrame with its columns in order, or an array of its type and shape.

    Missing required columns are an error, additional ones are dropped (MLflow's rules). Raises `ModelInputError`.
    """
    tensors = [spec for spec in schema if isinstance(spec, TensorSpec)]
    if not tensors:
        return _enforce_columns(data, [spec for spec in schema if isinstance(spec, ColumnSpec)])
    if len(tensors) == 1 and tensors[0].name is None:
        return _enforce_tensor(data, tensors[0])
    return _enforce_named_tensors(data, tensors)


def _enforce_columns(data: Any, columns: Sequence[ColumnSpec]) -> "pd.DataFrame":
    frame = _frame(data)
    if any(column.name is None for column in columns):
        if frame.shape[1] != len(columns):
            raise ModelInputError(f"The model takes {len(columns)} column(s), the data has {frame.shape[1]}")
        names = list(frame.columns)
    else:
        names = [column.name for column in columns]
        missing = [c.name for c in columns if c.required and c.name not in frame.columns]
        if missing:
            raise ModelInputError(
                f"The data lacks {len(missing)} column(s) that the model needs: {_list(missing)}. "
                f"It has: {_list(list(frame.columns))}"
            )
    wanted = [(name, column) for name, column in zip(names, columns, strict=True) if name in frame.columns]
    result = frame[[name for name, _ in wanted]].copy(deep=False)
    for name, column in wanted:
        result[name] = _convert_column(frame[name], column)
    return result


def _frame(data: Any) -> "pd.DataFrame":
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, pd.Series):
        frame = data.to_frame()
    else:
        try:
            frame = pd.DataFrame(data if isinstance(data, Mapping | list) else np.asarray(data))
        except (ValueError, TypeError) as error:
            raise ModelInputError(f"The data cannot be read as a table: {error}") from error
    if frame.columns.has_duplicates:
        raise ModelInputError(f"Columns appear twice: {_list(list(frame.columns[frame.columns.duplicated()]))}")
    return frame


def _convert_column(series: "pd.Series", column: ColumnSpec) -> "pd.Series":
    if column.required and series.isna().any() and column.type not in ("float", "double"):
        raise ModelInputError(f"Column {series.name!r} has empty values, and the model needs every one")
    converter = _CONVERTERS.get(column.type)
    if converter is None:
        return series
    try:
        return converter(series, column)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelInputError(
            f"Column {series.name!r} cannot become '{column.type}' without loss: it is {series.dtype} ({error})"
        ) from error


def _convert_number(series: "pd.Series", column: ColumnSpec) -> "pd.Series":
    import pandas as pd

    target = np.dtype(COLUMN_TYPES[column.type])
    if series.dtype == object:
        series = series.infer_objects()
        if series.dtype == object and series.isna().any():
            series = pd.to_numeric(series.where(series.notna(), np.nan))
    if not _is_numeric_kind(series.dtype, target):
        raise TypeError(f"a {target} is wanted")
    if target.kind in "iu" and series.isna().any():
        return series  # An optional whole number that is missing: only a float column can say so.
    values = series.to_numpy(dtype=series.to_numpy().dtype)
    return pd.Series(_cast(values, target), index=series.index, name=series.name)


def _convert_boolean(series: "pd.Series", _: ColumnSpec) -> "pd.Series":
    import pandas as pd

    if not all(isinstance(value, bool | np.bool_) for value in series.dropna()):
        raise TypeError("true or false is wanted")
    if series.isna().any():
        return series
    return pd.Series(series.to_numpy(dtype=bool), index=series.index, name=series.name)


def _convert_text(series: "pd.Series", _: ColumnSpec) -> "pd.Series":
    if not all(isinstance(value, str) for value in series.dropna()):
        raise TypeError("texts are wanted")
    return series.astype(object)


def _convert_datetime(series: "pd.Series", _: ColumnSpec) -> "pd.Series":
    import pandas as pd

    if series.dtype.kind in "iufb":
        raise TypeError("ISO 8601 times are wanted, not numbers")
    return pd.to_datetime(series, format=None if series.dtype.kind == "M" else "ISO8601")


_CONVERTERS: Mapping[str, "Callable[[pd.Series, ColumnSpec], pd.Series]"] = {
    "boolean": _convert_boolean,
    "integer": _convert_number,
    "long": _convert_number,
    "float": _convert_number,
    "double": _convert_number,
    "string": _convert_text,
    "datetime": _convert_datetime,
}


def _is_numeric_kind(dtype: Any, target: np.dtype[Any]) -> bool:
    return dtype.kind in ("iu" if target.kind in "iu" else "iuf")


def _enforce_named_tensors(data: Any, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray[Any, Any]]:
    if not isinstance(data, Mapping):
        raise ModelInputError(f"The model takes arrays by name: {_list([spec.name for spec in specs])}")
    missing = [spec.name for spec in specs if spec.name not in data]
    if missing:
        raise ModelInputError(f"The data lacks {_list(missing)}")
    return {str(spec.name): _enforce_tensor(data[spec.name], spec) for spec in specs}


def _enforce_tensor(data: Any, spec: TensorSpec) -> Any:
    if hasattr(data, "tocsr"):
        _check_shape(tuple(data.shape), spec)
        return data
    try:
        array = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelInputError(f"The data is not an array: {error}") from error
    _check_shape(array.shape, spec)
    try:
        return _cast(array, np.dtype(spec.dtype))
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelInputError(f"The model takes {spec.dtype}, the data is {array.dtype}: {error}") from error


def _check_shape(shape: tuple[int, ...], spec: TensorSpec) -> None:
    fits = len(shape) == len(spec.shape) and all(w in (-1, s) for w, s in zip(spec.shape, shape, strict=True))
    if not fits:
        raise ModelInputError(
            f"The model takes an array of shape {_shape(spec.shape)} (-1 is any length), the data has {_shape(shape)}"
        )


def _cast(values: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """To the wider type, or to a narrower one of the same kind when every value survives; floats are only rounded."""
    if values.dtype == target:
        return values
    if target.kind in "USO":
        if values.dtype.kind not in ("U", "S", "O"):
            raise TypeError("texts are wanted")
        return values
    if values.dtype.kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}.get(target.kind, target.kind):
        raise TypeError("only conversions without loss are made")
    with np.errstate(over="ignore"):
        converted = values.astype(target)
    if values.dtype.kind == "f":
        if np.isinf(converted).sum() != np.isinf(values).sum():
            raise OverflowError("a value is too large")
    elif not np.array_equal(converted.astype(object), values.astype(object)):  # Python compares numbers exactly.
        raise OverflowError("a value does not fit")
    return converted


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(length) for length in shape) + ")"


def _list(names: Sequence[object]) -> str:
    shown = ", ".join(repr(name)[:100] for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
