"""A server that speaks MLflow's REST API, and a plain HTTP client that sends exactly what a case says."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.mlflow_rest.case import Call

_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


class Server:
    """One server, and the entities on it that cases share."""

    def __init__(self, url: str) -> None:
        """``url``: where it listens, without a path."""
        self._netloc = urlsplit(url).netloc
        self._connection = HTTPConnection(self._netloc, timeout=_SECONDS)
        self._shared: dict[str, str] = {}
        self._settings: dict[str, dict[str, str]] = {}

    def send(self, call: Call) -> Answer:
        """Send a call as it is: no header, escape or retry is added to it."""
        try:
            return self._exchanged(call)
        except (ConnectionError, HTTPException):
            if self._connection.sock is None:
                raise
            # A server may close an idle connection at any time; a second failure on a new one is the server's.
            self._connection.close()
            return self._exchanged(call)

    def shared(self, name: str, make: Callable[[], str]) -> str:
        """Return the entity that is shared under a name; ``make`` makes it when it is first asked for."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    def setting(self, name: str, make: Callable[[], dict[str, str]]) -> dict[str, str]:
        """Return what the calls of a setting saved; ``make`` performs them when it is first asked for."""
        if name not in self._settings:
            self._settings[name] = make()
        return self._settings[name]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchanged(self, call: Call) -> Answer:
        self._connection.request(call.verb, call.target, call.body, dict(call.sent_headers))
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
