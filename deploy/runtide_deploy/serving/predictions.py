"""Answers of `/invocations`: whatever a model returned, as JSON. NaN and infinities become null, which JSON can say."""

from typing import Any

import numpy as np
import orjson
import pandas as pd

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def predictions_json(predictions: Any) -> bytes:
    """MLflow's reply: `{"predictions": ...}`, a DataFrame as records, arrays as lists. TypeError for what has no JSON."""
    return orjson.dumps({"predictions": _plain(predictions)}, default=_plain, option=_OPTIONS)


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return value.to_dict(orient="records")
    if isinstance(value, pd.Series | pd.Index | np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if hasattr(value, "toarray"):
        return value.toarray().tolist()
    if isinstance(value, list | tuple | dict | str | int | float | None):
        return value
    raise TypeError(f"a prediction of type {type(value).__name__} cannot be sent as JSON")
