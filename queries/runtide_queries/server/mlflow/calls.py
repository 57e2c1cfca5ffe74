"""A call of MLflow's API: where its fields come from, of what type they must be, and what is said when they are not.

Wire rules are those of proto3 JSON as MLflow's server applies them (``mlflow/server/handlers.py``): integers may come as text,
unknown fields are ignored, an empty value of a required field is a missing one, a body that is no JSON is an empty one. A body's
field may bear its name of proto3 JSON's other form (``runId`` for ``run_id``), which printers of protobuf write unless told not to;
never both names at once, which may hold two values.
"""

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtide_queries.server.actors import actor_of
from runtide_queries.server.answers import Json, refusal
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.stores import Stores
from runtide_schemas.errors import InvalidRequest

MOST_BODY_BYTES = 16 * 1024 * 1024
"""Largest body of a call: a dataset's profile may have 16 million characters, all else is far smaller."""
MOST_FIELDS = 2_000
_TYPED = ("POST", "PUT")
"""Methods whose bodies must say what they are; of the others some have none."""
_DOCS = "See the API docs for more information about request parameters."
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?\Z")
"""A number as proto3 JSON also has it (``1.0``, ``1e2``), and as R's client sends one of many zeros (``1e+05``)."""
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_INT64 = 2**63
_TYPES = {str: "str", bool: "bool", int: "int", float: "float", list: "list", dict: "dict", type(None): "NoneType"}


class Fields:
    """Named values of a call, or of an object inside one.

    Every reader raises InvalidRequest: the field is missing although it is required, or of another type.
    """

    def __init__(self, values: Mapping[str, Any], within: str = "") -> None:
        """``within``: where the object is, for what is said of it."""
        self._values = values
        self._within = within

    def __contains__(self, name: str) -> bool:
        """Say whether a field was given and is not null."""
        return self._given(name) is not None

    def text(self, name: str, *, required: bool = False, default: str = "") -> str:
        """Return text."""
        value = self._value(name, required)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, value)
        return value

    def is_number(self, name: str) -> bool:
        """Say whether a field is a whole number, also one of digits, as an enumeration's value may be."""
        value = self._given(name)
        if isinstance(value, str):
            return bool(_INTEGER.match(value))
        return isinstance(value, int) and not isinstance(value, bool)

    def optional_text(self, name: str) -> str | None:
        """Return text, or None where none is given."""
        return self.text(name) if name in self else None

    def integer(self, name: str, *, required: bool = False, default: int = 0) -> int:
        """Return a whole number of 64 bits with its sign."""
        value = self._value(name, required)
        if value is None:
            return default
        number = _whole(value)
        if number is None:
            raise self._wrong(name, value)
        return number

    def optional_integer(self, name: str) -> int | None:
        """Return a whole number, or None where none is given."""
        return self.integer(name) if name in self else None

    def number(self, name: str, *, required: bool = False, default: float = 0.0) -> float:
        """Return a double; NaN and infinities come as text."""
        value = self._value(name, required)
        if value is None:
            return default
        if isinstance(value, str):
            try:
                return _NUMBERS[value] if value in _NUMBERS else float(value[:400])
            except ValueError as error:
                raise self._wrong(name, value) from error
        if not isinstance(value, int | float):
            raise self._wrong(name, value)
        try:
            return float(value)
        except OverflowError as error:
            raise self._wrong(name, value) from error

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a truth value; in a query it is ``true`` or ``false`` of any case."""
        value = self._value(name, False)
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            value = value.lower() == "true"
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, value)
        return value

    def texts(self, name: str, *, required: bool = False) -> list[str]:
        """Return a list of texts."""
        values = self._list(name, required)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, values)
        return values

    def mappings(self, name: str, *, required: bool = False) -> list[dict[str, Any]]:
        """Return a list of objects as they came: what is in them is unchecked."""
        values = self._list(name, required)
        if not all(isinstance(value, dict) for value in values):
            raise self._wrong(name, values)
        return values

    def objects(self, name: str, *, required: bool = False) -> "list[Fields]":
        """Return a list of objects."""
        values = self.mappings(name, required=required)
        return [Fields(value, f"{self._within}{name}[{place}].") for place, value in enumerate(values)]

    def object(self, name: str, *, required: bool = False) -> "Fields":
        """Return an object; an empty one where none is given."""
        value = self._value(name, required)
        if value is None:
            return Fields({}, f"{self._within}{name}.")
        if not isinstance(value, dict):
            raise self._wrong(name, value)
        return Fields(value, f"{self._within}{name}.")

    def pairs(self, name: str) -> dict[str, str]:
        """Return a list of ``{"key": ..., "value": ...}`` as a mapping; the last of a key counts."""
        return {one.text("key", required=True): one.text("value") for one in self.objects(name)}

    def choice(self, name: str, choices: Mapping[str, Any], default: Any) -> Any:
        """Return what an enumeration's name, or its number from 1 on (in a query it is text), stands for."""
        if name not in self:
            return default
        value = self._value(name, False)
        number = int(value) if isinstance(value, str) and _INTEGER.match(value) else value
        if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= len(choices):
            return [*choices.values()][number - 1]
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(name, value)
        return choices[value]

    def wrong(self, name: str, hint: str = "") -> InvalidRequest:
        """Return the error for a field whose value cannot be, with a hint."""
        return self._wrong(name, self._given(name), hint)

    def _list(self, name: str, required: bool) -> list[Any]:
        value = self._value(name, required)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, value)
        return value

    def _given(self, name: str) -> Any:
        other = _in_camel_case(name)
        if other == name or other not in self._values:
            return self._values.get(name)
        if name in self._values:
            raise InvalidRequest(f"Request specifies both '{name}' and '{other}'; provide only one of them.")
        return self._values[other]

    def _value(self, name: str, required: bool) -> Any:
        value = self._given(name)
        if required and (value is None or value == ""):
            raise missing(f"{self._within}{name}")
        return value

    def _wrong(self, name: str, value: Any, hint: str = "") -> InvalidRequest:
        shown = _shown(value)
        told = hint or f"Value was of type '{_TYPES.get(type(value), type(value).__name__)}'."
        return InvalidRequest(
            f"Invalid value {shown} for parameter '{self._within}{name}' supplied:  Hint: {told} {_DOCS}"
        )


class Call(Fields):
    """One call: its fields, what is asked and written through it, and on whose behalf.

    Attributes:
        stores: what the handler uses.
        actor: who calls, as far as they said.
        path: values of the path's parameters.
    """

    def __init__(self, values: Mapping[str, Any], request: Request) -> None:
        super().__init__(values)
        self.stores: Stores = request.app.state.stores
        self.actor = actor_of(request)
        self.path: Mapping[str, Any] = request.path_params
        self.request = request

    def run_id(self) -> str:
        """Return the run's id, which older clients send as ``run_uuid``."""
        return self.text("run_id") or self.text("run_uuid") or self.text("run_id", required=True)


class QueryFields(Call):
    """Fields of a query: a list is a parameter that is repeated; of one that is no list the first counts, as in MLflow."""

    def __init__(self, request: Request) -> None:
        items = request.query_params.multi_items()
        if len(items) > MOST_FIELDS:
            raise InvalidRequest(f"a call has at most {MOST_FIELDS} parameters, got {len(items)}")
        super().__init__(dict(reversed(items)), request)
        self._lists = items

    def _list(self, name: str, required: bool) -> list[Any]:
        values = [value for key, value in self._lists if key == name]
        if required and not values:
            raise missing(name)
        return values


Handler = Callable[[Call], Awaitable[Any]]


def missing(name: str) -> InvalidRequest:
    """Return the error for a required field that is not there."""
    return InvalidRequest(f"Missing value for required parameter '{name}'. {_DOCS}")


def call_routes(
    method: str,
    path: str,
    handler: Handler,
    policy: Policy,
    summary: str,
    version: str = "2.0",
    service: str = "mlflow",
) -> Iterator[Route]:
    """Yield a call's route and its twin, under which MLflow's own pages find it."""
    for api in ("api", "ajax-api"):
        place = f"/{api}/{version}/{service}/{path}"
        yield Route(method, place, answering(handler), policy, summary, MOST_BODY_BYTES)


def answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a route's requests as a handler says."""

    async def answer(request: Request) -> Response:
        try:
            call = QueryFields(request) if request.method == "GET" else Call(await _body(request), request)
        except ClientDisconnect:
            return refusal("BAD_REQUEST", "the body broke off")
        found = await handler(call)
        return found if isinstance(found, Response) else Json(found)

    return answer


async def _body(request: Request) -> Mapping[str, Any]:
    kind = request.headers.get("content-type", "")
    if request.method not in _TYPED:
        return parsed(await request.body())
    if not kind:
        raise InvalidRequest("Bad Request. Content-Type header is missing.")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest("Bad Request. Content-Type must be one of ['application/json'].")
    return parsed(await request.body())


def parsed(body: bytes) -> Mapping[str, Any]:
    """Return a body's fields; none of what is no JSON object (as MLflow has it).

    Bare NaN and infinities, which JSON does not know but R's and older clients send, are numbers.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(body)
            _check_letters(found)
        except (ValueError, RecursionError):
            return {}
    if isinstance(found, str):  # some clients encode twice
        return parsed(found.encode())
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int | None:
    """Return a whole number of 64 bits, however it is written; None for what is none."""
    if isinstance(value, str) and _INTEGER.match(value):
        value = int(value)
    elif isinstance(value, str) and _WHOLE.match(value):
        value = Decimal(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
        return None
    return value


def _check_letters(found: Any) -> None:
    """Refuse halves of surrogate pairs, which Python's reader lets through and nothing can be made of."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("the body has half of a surrogate pair, which is no letter: escape both halves") from error


@lru_cache(maxsize=512)
def _in_camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _shown(value: Any) -> str:
    text = value[:200] if isinstance(value, str) else value
    try:
        return json.dumps(text, sort_keys=True, separators=(",", ":"))[:300]
    except (ValueError, RecursionError, TypeError):
        return f"of type {type(value).__name__}"
