"""What goes out: JSON by MLflow's wire rules, and errors with MLflow's codes and statuses.

Integers are numbers, NaN and infinities are the strings "NaN", "Infinity" and "-Infinity", bytes are base64.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from starlette.responses import Response

from runtide_schemas.errors import InvalidRequest, RuntideError, TransientError

STATUSES: dict[str, int] = {
    "INVALID_PARAMETER_VALUE": 400,
    "BAD_REQUEST": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "INVALID_STATE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}
"""MLflow's error codes (``mlflow/exceptions.py``) that we answer, with their HTTP statuses; INVALID_STATE is its 500, but no fault
of ours, and its clients would try for minutes."""

_LARGEST_INTEGER = 2**64 - 1
_JSON_TYPES = frozenset({str, bool, type(None), orjson.Fragment})
"""Values that are JSON as they are; a fragment is JSON already."""


class Json(Response):
    """A JSON answer of plain values and dataclasses."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of ``content``."""
        return orjson.dumps(plain(content), option=orjson.OPT_NON_STR_KEYS)


def plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it."""
    kind: Any = type(value)
    if kind in _JSON_TYPES:
        return value
    if kind is float:
        return value if math.isfinite(value) else _not_finite(value)
    if kind is int:
        return value if -(2**63) <= value <= _LARGEST_INTEGER else str(value)
    names = _field_names(kind)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    return _of_other_type(value)


@lru_cache(maxsize=1_000)
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Return a dataclass's fields, None of any other type: a page of runs has thousands of objects, of few types."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def _of_other_type(value: Any) -> Any:
    if isinstance(value, int):
        return value if isinstance(value, bool) or -(2**63) <= value <= _LARGEST_INTEGER else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    return _other(value)


def error_answer(error: RuntideError, *, status: int | None = None) -> Json:
    """Return the answer to an error of ours."""
    if isinstance(error, InvalidRequest):
        return refusal(error.code, str(error), status=status)
    if isinstance(error, TransientError):
        return refusal("TEMPORARILY_UNAVAILABLE", str(error), headers={"Retry-After": "1"})
    return refusal("INTERNAL_ERROR", str(error))


def refusal(code: str, message: str, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Json:
    """Return an error in MLflow's form."""
    body = {"error_code": code, "message": message}
    return Json(body, status_code=status or STATUSES.get(code, 400), headers=dict(headers or {}))


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form here")
