"""Input examples: one small input kept beside the model, as itself and as a body for the scoring server."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

_FILE = "input_example.json"
_SERVING_FILE = "serving_input_example.json"


def write_example(directory: Path, example: Any) -> dict[str, Any]:
    """Write both files; returns MLflow's `saved_input_example_info`. NaN becomes null (JSON has no NaN).

    Takes a DataFrame, a NumPy array, or what JSON can say. Raises TypeError for anything else.
    """
    info: dict[str, Any] = {"artifact_path": _FILE, "serving_input_path": _SERVING_FILE}
    if hasattr(example, "columns") and hasattr(example, "to_dict"):
        body = example.to_dict(orient="split", index=False)
        info |= {"type": "dataframe", "pandas_orient": "split"}
        _write(directory / _FILE, body)
        _write(directory / _SERVING_FILE, {"dataframe_split": body})
    elif isinstance(example, np.ndarray):
        info["type"] = "ndarray"
        _write(directory / _FILE, example.tolist())
        _write(directory / _SERVING_FILE, {"inputs": example.tolist()})
    else:
        info["type"] = "json_object"
        _write(directory / _FILE, example)
        _write(directory / _SERVING_FILE, {"inputs": example})
    return info


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(_plain(value), allow_nan=False), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value
