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
from urllib.request import Request, urlopen

from runtide.secret_file import read_secret
from runtide_schemas.errors import InvalidRequest, NotFound, RuntideError, TransientError

API = "/api/runtide/v1"
_TIMEOUT_S = 3.0
_AWAY_S = 10.0
"""For so long nobody waits again for a gateway that did not answer in time."""

Parameters = Mapping[str, str | int | bool | Sequence[str]]


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
        """Return the JSON answer to a question.

        Args:
            path: segments below the API's root, quoted here.
            parameters: of the query; a sequence is repeated, what is empty is left out.

        Raises:
            NotFound: there is no such thing.
            InvalidRequest: the gateway refused, with its code.
            TransientError: there is no gateway, or it does not answer.
            FatalError: the file of its token cannot be used.
        """
        if not self._url:
            raise TransientError(
                "only a gateway can answer this, and none is known: what this process did not write itself is asked of it. "
                "Start a stack with `runtide up`, set RUNTIDE_GATEWAY, or use a tracking URI with ?gateway=URL"
            )
        if time.monotonic() < self._away_until:
            raise TransientError(
                f"the gateway at {self._url} did not answer in {_TIMEOUT_S:.0f} s a moment ago; is the stack up?"
            )
        given = {name: value for name, value in parameters.items() if value not in ("", ())}
        url = f"{self._url}{API}/{'/'.join(quote(segment, safe='') for segment in path)}?{urlencode(given, doseq=True)}"
        try:
            with urlopen(Request(url, headers=_headers()), timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the user's URL
                return json.load(answer)
        except HTTPError as error:
            raise _refusal(error) from error
        except (URLError, HTTPException, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
                self._away_until = time.monotonic() + _AWAY_S
            raise TransientError(f"no answer from the gateway at {self._url} ({error}); is the stack up?") from error

    def behind(self) -> bool:
        """Return whether projections lack events of the log, or nobody can say that they do not."""
        try:
            with urlopen(Request(f"{self._url}{API}/ready", headers=_headers()), timeout=_TIMEOUT_S) as answer:  # noqa: S310
                projections = json.load(answer)["projections"].values()
        except (HTTPException, OSError, ValueError, KeyError, TypeError, AttributeError):
            return True
        return any(told["events_behind"] != 0 for told in projections)


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
