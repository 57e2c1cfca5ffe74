"""Asking the gateway's JSON API, for what this process does not know itself."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

from runtide.mlflow_plugin.patience import Hung, open_patiently
from runtide.secret_file import read_secret
from runtide_schemas.errors import InvalidRequest, NotFound, RuntideError, TransientError

API = "/api/runtide/v1"
_ANSWER_S = 30.0
"""A gateway that is there may think for so long about a question that only it can answer."""
_SOON_S = 5.0
"""And for so long about one that this process has an answer of its own to."""
_AWAY_S = 10.0
"""For so long nobody waits again for a gateway that is not there, or hangs."""

_OURS = ("postgres", "duckdb")
"""The projections that runs are read from."""

Parameters = Mapping[str, str | int | bool | Sequence[str]]


class AnswerLate(TransientError):
    """The gateway is there, and did not answer this question in time. The next question is asked all the same."""


class Gateway:
    """The gateway at an address, which may be empty: then every question is an error that says so."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._away_until = 0.0

    @property
    def known(self) -> bool:
        """True when there is an address; whether anybody answers there shows when it is asked."""
        return bool(self._url)

    def get(self, *path: str, **parameters: str | int | bool | Sequence[str]) -> Any:
        """Return the JSON answer to a question that only the gateway can answer.

        Args:
            path: segments below the API's root, quoted here.
            parameters: of the query; a sequence is repeated, what is empty is left out.

        Raises:
            NotFound: there is no such thing.
            InvalidRequest: the gateway refused, with its code.
            AnswerLate: it works, and has not begun to answer in 30 s, or not come to the end in as many more.
            TransientError: there is no gateway, or it does not answer.
            FatalError: the file of its token cannot be used.
        """
        return self._asked(path, parameters, _ANSWER_S)

    def soon(self, *path: str, **parameters: str | int | bool | Sequence[str]) -> Any:
        """Return the answer to a question that this process has an answer of its own to: see ``get``, waits 5 s."""
        return self._asked(path, parameters, _SOON_S)

    def within(self, patience: float, *path: str) -> Any:
        """Return the answer to such a question when it comes in so many seconds, 5 at most; see ``soon``."""
        return self._asked(path, {}, min(patience, _SOON_S))

    def behind(self) -> bool:
        """Return whether our projections lack events of the log, or nobody can say that they do not.

        Those of operators (``runtide project``) have no say: no run is read from them.
        """
        try:
            projections = self.soon("ready")["projections"]
            return any(projections[name]["events_behind"] != 0 for name in _OURS)
        except (RuntideError, KeyError, TypeError, AttributeError):
            return True

    def _asked(self, path: Sequence[str], parameters: Parameters, patience: float) -> Any:
        if not self._url:
            raise TransientError(
                "only a gateway can answer this, and none is known: what this process did not write itself is asked of it. "
                "Start a stack with `runtide up`, set RUNTIDE_GATEWAY, or use a tracking URI with ?gateway=URL"
            )
        if time.monotonic() < self._away_until:
            raise TransientError(f"the gateway at {self._url} was not there a moment ago; is the stack up?")
        given = {name: value for name, value in parameters.items() if value not in ("", ())}
        url = f"{self._url}{API}/{'/'.join(quote(segment, safe='') for segment in path)}?{urlencode(given, doseq=True)}"
        alive = f"{self._url}{API}/health"
        try:
            with open_patiently(url, _headers(), patience, alive) as answer:
                return json.loads(answer.whole(time.monotonic() + patience))
        except HTTPError as error:
            raise _refusal(error) from error
        except TimeoutError as error:
            raise AnswerLate(
                f"the gateway at {self._url} is there, and has not answered {'/'.join(path)} in {patience:g} s; it may be "
                "busy: ask again, or for less"
            ) from error
        except (URLError, HTTPException, OSError, ValueError) as error:
            if isinstance(error, Hung) or isinstance(getattr(error, "reason", None), TimeoutError):
                self._away_until = time.monotonic() + _AWAY_S
            raise TransientError(f"no answer from the gateway at {self._url} ({error}); is the stack up?") from error


def _headers() -> dict[str, str]:
    """Return the headers with the gateway's token, if the environment has one; as the command line does it."""
    token = os.environ.get("RUNTIDE_GATEWAY_TOKEN", "")
    if not token and (file := os.environ.get("RUNTIDE_GATEWAY_TOKEN_FILE")):
        token = read_secret(Path(file), "RUNTIDE_GATEWAY_TOKEN_FILE")
    return {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


def _refusal(error: HTTPError) -> RuntideError:
    with error:
        text = error.read(100_000).decode("utf-8", "replace")
    try:
        body = json.loads(text)
        message, code = str(body["message"]), str(body["error_code"])
    except (ValueError, KeyError, TypeError):
        return TransientError(f"the gateway answered {error.code}: {text[:300]}")
    if code == "RESOURCE_DOES_NOT_EXIST":
        return NotFound(message)
    return TransientError(message) if error.code >= 500 else InvalidRequest(message, code)
