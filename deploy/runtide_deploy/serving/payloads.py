"""Requests to `/invocations`, in MLflow's formats (https://mlflow.org/docs/latest/ml/deployment/#api-reference).

Whatever a body holds, reading it costs no more than its limits allow, and what cannot be read is a `RequestError`.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pandas as pd

from runtide.models import ModelSignature, TensorSpec

_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for. `cells` is rows times columns, so that sparse records cannot fill the memory."""

    body_bytes: int = 16 * 1024 * 1024
    depth: int = 32
    rows: int = 100_000
    cells: int = 10_000_000
    seconds: float = 60.0


class RequestError(Exception):
    """The request cannot be answered: its HTTP status, MLflow's error code, and what to change."""

    def __init__(self, message: str, status: int = 400, error_code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code


def read_payload(body: bytes, content_type: str, signature: ModelSignature | None, limits: Limits) -> Any:
    """The data of a request: a DataFrame, or what `inputs` and `instances` hold. Raises `RequestError`."""
    media_type, parameters = _parse_content_type(content_type)
    if media_type not in _MEDIA_TYPES or parameters.get("charset", "utf-8") not in ("utf-8", "utf8"):
        raise RequestError(
            f"Content type {content_type[:100]!r} is not supported. Send application/json or text/csv, in UTF-8.", 415
        )
    return _MEDIA_TYPES[media_type](body, signature, limits)


def _parse_content_type(text: str) -> tuple[str, dict[str, str]]:
    media_type, *rest = text.split(";")
    pairs = (parameter.partition("=") for parameter in rest)
    return media_type.strip().lower(), {key.strip().lower(): value.strip(' "').lower() for key, _, value in pairs}


def _read_json(body: bytes, signature: ModelSignature | None, limits: Limits) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"The body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(f"The body must be a JSON object with one of {_FORMAT_NAMES}, not a {_kind(document)}")
    found = [key for key in document if key in _FORMATS]
    if len(found) != 1:
        given = ", ".join(repr(key)[:50] for key in list(document)[:10]) or "none"
        raise RequestError(f"The body must have exactly one of the keys {_FORMAT_NAMES}. It has: {given}")
    # Models of no flavor so far take parameters; like MLflow without a parameter schema, they are read and not used.
    if not isinstance(document.get("params") or {}, dict):
        raise RequestError("'params' must be an object")
    data = document[found[0]]
    _check_depth(data, limits)
    return _FORMATS[found[0]](data, signature, limits)


def _read_csv(body: bytes, _: ModelSignature | None, limits: Limits) -> pd.DataFrame:
    try:
        text = body.decode("utf-8-sig")
        columns = len(next(csv.reader(io.StringIO(text, newline="")), []))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"The body is not CSV in UTF-8: {error}") from error
    if "\0" in text:
        raise RequestError("The body is not CSV: it has NUL characters")
    _check_size(text.count("\n") + text.count("\r"), columns, limits)
    try:
        frame = pd.read_csv(io.StringIO(text, newline=""), low_memory=False)
    except (ValueError, OverflowError) as error:  # pandas' parser errors are ValueErrors
        raise RequestError(f"The body is not CSV with a header row: {error}") from error
    return frame


def _read_split(data: Any, _: ModelSignature | None, limits: Limits) -> pd.DataFrame:
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise RequestError("'dataframe_split' must be an object with 'data' (a list of rows) and 'columns'")
    rows, columns, index = data["data"], data.get("columns"), data.get("index")
    if columns is not None and not _is_list_of_names(columns):
        raise RequestError("'columns' of 'dataframe_split' must be a list of names")
    if columns is not None and len(set(columns)) != len(columns):
        raise RequestError("'columns' of 'dataframe_split' has a name twice")
    widths = {len(row) if isinstance(row, list) else -1 for row in rows}
    if -1 in widths or len(widths) > 1 or (columns is not None and widths - {len(columns)}):
        raise RequestError("Every row of 'dataframe_split' must be a list with one value per column")
    if index is not None and not (isinstance(index, list) and len(index) == len(rows)):
        raise RequestError("'index' of 'dataframe_split' must have one label per row")
    _check_size(len(rows), max(widths, default=0), limits)
    return _frame(rows, columns)


def _read_records(data: Any, _: ModelSignature | None, limits: Limits) -> pd.DataFrame:
    if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
        raise RequestError("A list of objects, one per row, is wanted")
    names: dict[str, None] = {}
    for record in data:
        names.update(dict.fromkeys(record))
        _check_size(len(data), len(names), limits)
    return _frame(data, list(names))


def _read_tensor(data: Any, signature: ModelSignature | None, limits: Limits) -> Any:
    """`inputs` and `instances`: rows, records, or arrays by name."""
    if isinstance(data, list):
        _check_size(len(data), 1, limits)
        return _read_records(data, signature, limits) if data and isinstance(data[0], dict) else data
    if not isinstance(data, dict):
        raise RequestError(f"A list, or an object of lists by name, is wanted, not a {_kind(data)}")
    inputs = signature.inputs if signature else None
    if inputs and isinstance(inputs[0], TensorSpec):
        return data
    values = {name: value if isinstance(value, list) else [value] for name, value in data.items()}
    if len({len(value) for value in values.values()}) > 1:
        raise RequestError("The lists of an object must have the same length")
    rows = max((len(value) for value in values.values()), default=0)
    _check_size(rows, len(values), limits)
    return _frame(values, None)


def _frame(data: Any, columns: Sequence[Any] | None) -> pd.DataFrame:
    try:
        return pd.DataFrame(data, columns=columns)
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"The data cannot be read as a table: {error}") from error


def _check_size(rows: int, columns: int, limits: Limits) -> None:
    if rows > limits.rows:
        raise RequestError(f"{rows} rows in one request; at most {limits.rows} are allowed. Send them in parts.", 413)
    if rows * columns > limits.cells:
        raise RequestError(
            f"{rows} rows of {columns} columns in one request; at most {limits.cells} values are allowed. "
            "Send them in parts.",
            413,
        )


def _check_depth(data: Any, limits: Limits) -> None:
    level, depth = [data], 0
    while level := [value for value in level if isinstance(value, list | dict)]:
        depth += 1
        if depth > limits.depth:
            raise RequestError(f"The data is nested deeper than {limits.depth} levels")
        level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]


def _is_list_of_names(columns: Any) -> bool:
    return isinstance(columns, list) and all(isinstance(name, _SCALARS) for name in columns)


def _kind(value: object) -> str:
    return {list: "list", str: "text", bool: "boolean", type(None): "null", dict: "object"}.get(type(value), "number")


_FORMATS: Mapping[str, Callable[[Any, ModelSignature | None, Limits], Any]] = {
    "dataframe_split": _read_split,
    "dataframe_records": _read_records,
    "instances": _read_tensor,
    "inputs": _read_tensor,
}
_FORMAT_NAMES = ", ".join(f"'{name}'" for name in _FORMATS)

_MEDIA_TYPES: Mapping[str, Callable[[bytes, ModelSignature | None, Limits], Any]] = {
    "application/json": _read_json,
    "text/csv": _read_csv,
}
