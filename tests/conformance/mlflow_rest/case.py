"""One row of the table: a call, what has to be there before it, and what it answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from tests.conformance.mlflow_rest.shapes import ANYTHING

PREFIX = "/api/2.0/mlflow/"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Call:
    """A request. What begins with ``$`` in any string is filled in by the scene (``scene.py``).

    Attributes:
        verb, path: the method, and the path: below ``/api/2.0/mlflow/`` unless it begins with a slash.
        payload: the query of a GET, else the JSON body; None: neither.
        raw: the bytes of the body, instead of ``payload``.
        headers: instead of ``Content-Type: application/json``.
        saves: names under which parts of the answer are filled in later: name -> dotted path (``run.info.run_id``).
        wanted: what the answer looks like, when it is a call that a case needs done.
    """

    verb: str
    path: str
    payload: Any = None
    raw: bytes | None = None
    headers: Mapping[str, str] | None = None
    saves: Mapping[str, str] = field(default_factory=dict)
    wanted: Any = ANYTHING

    @property
    def target(self) -> str:
        """The path and the query that are asked for."""
        path = self.path if self.path.startswith("/") else PREFIX + self.path
        queried = self.payload if self.verb == "GET" and self.payload else None
        return path + (f"?{urlencode(queried, doseq=True, quote_via=quote)}" if queried else "")

    @property
    def body(self) -> bytes | None:
        """The bytes that are sent."""
        if self.raw is not None:
            return self.raw
        return None if self.verb == "GET" or self.payload is None else json.dumps(self.payload).encode()

    @property
    def sent_headers(self) -> Mapping[str, str]:
        """The headers that are sent, beside those that the protocol needs."""
        return (JSON if self.body is not None else {}) if self.headers is None else self.headers


@dataclass(frozen=True)
class Wanted:
    """What a call answers.

    Attributes:
        status: of HTTP.
        error: MLflow's error code; empty: the answer is no error.
        message: a regular expression that is found in the message of the error.
        answer: the shape of the JSON (``shapes.py``).
        text: the body, where it is no JSON.
        headers: regular expressions that are found in headers, by name.
    """

    status: int = 200
    error: str = ""
    message: str = ""
    answer: Any = ANYTHING
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ours:
    """What our gateway answers instead, and why."""

    why: str
    wanted: Wanted


@dataclass(frozen=True)
class Setting:
    """What many cases only look at: made once a server. What its calls save is filled in for all those cases."""

    name: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: what is tried, in words; with the area and the endpoint it is the test's name.
        call, wanted: the call and MLflow's answer.
        setting: what has to be there, and is not changed.
        before, then: calls that have to work before and after it; each may say what it answers.
        ours: our answer, where it is another one on purpose.
    """

    name: str
    call: Call
    wanted: Wanted
    before: tuple[Call, ...] = ()
    then: tuple[Call, ...] = ()
    ours: Ours | None = None
    setting: Setting | None = None

    @property
    def endpoint(self) -> str:
        """The verb and the path, as the table names them."""
        return f"{self.call.verb} {self.call.path}"

    def twin(self) -> "Case":
        """Return the same case for the twin of the endpoint, below ``/ajax-api/``, where the browser calls it."""
        path = self.call.path if self.call.path.startswith("/") else PREFIX + self.call.path
        call = replace(self.call, path=path.replace("/api/", "/ajax-api/", 1))
        return replace(self, call=call)


def call(endpoint: str, payload: Any = None, **more: Any) -> Call:
    """Return the call of an endpoint that is written ``VERB path``."""
    verb, _, path = endpoint.partition(" ")
    return Call(verb, path, payload, **more)


def ok(
    name: str,
    endpoint: str,
    payload: Any = None,
    answer: Any = ANYTHING,
    *,
    before: tuple[Call, ...] = (),
    then: tuple[Call, ...] = (),
    ours: Ours | None = None,
    setting: Setting | None = None,
    **more: Any,
) -> Case:
    """Return a case that works. ``more``: attributes of `Call` and `Wanted` (``text``, ``headers_wanted``, ``status``)."""
    wanted = Wanted(
        more.pop("status", 200), answer=answer, text=more.pop("text", None), headers=more.pop("headers_wanted", {})
    )
    return Case(name, call(endpoint, payload, **more), wanted, before, then, ours, setting)


def bad(
    name: str,
    endpoint: str,
    payload: Any = None,
    message: str = "",
    error: str = "INVALID_PARAMETER_VALUE",
    status: int = 400,
    *,
    before: tuple[Call, ...] = (),
    then: tuple[Call, ...] = (),
    ours: Ours | None = None,
    setting: Setting | None = None,
    **more: Any,
) -> Case:
    """Return a case that is refused. ``more``: attributes of `Call`."""
    return Case(name, call(endpoint, payload, **more), Wanted(status, error, message), before, then, ours, setting)


def missing(endpoint: str, payload: Mapping[str, Any], parameter: str, **more: Any) -> Case:
    """Return the case in which a parameter that the endpoint needs is left out of ``payload``."""
    left = {key: value for key, value in payload.items() if key != parameter}
    message = rf"Missing value for required parameter '{parameter}'\. See the API docs for more information"
    return bad(f"without {parameter}", endpoint, left, message, **more)


def wrong_type(endpoint: str, payload: Mapping[str, Any], parameter: str, value: Any, shown: str, **more: Any) -> Case:
    """Return the case in which a parameter has a value of another type. ``shown``: how the message shows it (a regex)."""
    message = rf"Invalid value {shown} for parameter '{parameter}' supplied:  Hint: Value was of type '{_type(value)}'"
    return bad(f"{parameter} is {value!r}", endpoint, {**payload, parameter: value}, message, **more)


def differs(
    why: str, error: str = "", message: str = "", *, status: int = 0, answer: Any = ANYTHING, **more: Any
) -> Ours:
    """Return what we answer instead: an error (400 unless told) when ``error`` is given, else an answer that works."""
    return Ours(why, Wanted(status or (400 if error else 200), error, message, answer, **more))


def _type(value: Any) -> str:
    return type(value).__name__
