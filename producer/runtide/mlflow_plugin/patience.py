"""HTTP requests that tell a server that is slow from one that is away: the first is waited for, the second is not."""

import selectors
import time
from collections.abc import Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import socket
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener, urlopen

_THERE_S = 3.0
"""So long may a connection take, and a sign of life."""
_SILENCE_S = 3.0
"""After so long without the first byte of an answer, the server is asked for one."""
_PIECE_BYTES = 64 * 1024


class Hung(OSError):
    """The server took the question, and answers nothing at all any more."""


def open_patiently(url: str, headers: Mapping[str, str], patience: float, alive: str) -> Any:
    """Return the response to a request, a ``Response``; the caller closes it.

    Args:
        url: of a question.
        headers: to send with it.
        patience: seconds that a server which is there may be silent for.
        alive: URL of a question that it answers at once, asked when there is nothing of the answer for a while.

    Raises:
        TimeoutError: the server is there, and is slower than that.
        URLError: it cannot be reached; its reason is a TimeoutError when nobody said so.
        Hung: it was reached, and hangs.
        HTTPError: it refused.
        OSError, HTTPException: the connection broke.
    """
    sign = Request(alive, headers=dict(headers))  # noqa: S310 - the user's URL
    question = Request(url, headers=dict(headers))  # noqa: S310
    return build_opener(_Http(sign), _Https(sign)).open(question, timeout=patience)


class Response(HTTPResponse):
    """One whose body can be read with a deadline: a timeout of its connection is for each piece, however small."""

    def __init__(self, sock: socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._connected = sock

    def whole(self, deadline: float) -> bytes:
        """Return the rest of the body.

        Args:
            deadline: of ``time.monotonic``.

        Raises:
            TimeoutError: it is not there by then.
            OSError, HTTPException: the connection broke.
        """
        pieces: list[bytes] = []
        while not self.isclosed():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer began, and does not come to its end")
            self._connected.settimeout(left)
            if not (piece := self.read1(_PIECE_BYTES)):
                break
            pieces.append(piece)
        return b"".join(pieces)


class _Patient(HTTPConnection):
    """Has one timeout for connecting, and another for answers."""

    response_class = Response

    def __init__(self, *arguments: Any, alive: Request, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._alive = alive

    def connect(self) -> None:
        patience, self.timeout = self.timeout, _THERE_S
        super().connect()
        self.timeout = patience
        self.sock.settimeout(patience)

    def getresponse(self) -> HTTPResponse:
        if self.timeout is not None and self.timeout > _SILENCE_S and not self._readable() and not self._lives():
            raise Hung(f"neither an answer nor a sign of life in {_SILENCE_S + _THERE_S:g} s")
        return super().getresponse()

    def _readable(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            return bool(selector.select(_SILENCE_S))

    def _lives(self) -> bool:
        try:
            with urlopen(self._alive, timeout=_THERE_S):  # noqa: S310 - the user's URL
                return True
        except HTTPError as error:
            error.close()
            return True
        except (OSError, HTTPException):
            return False


class _PatientTls(_Patient, HTTPSConnection):
    pass


class _Http(HTTPHandler):
    def __init__(self, alive: Request) -> None:
        super().__init__()
        self._patient_alive = alive

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_Patient, alive=self._patient_alive), req)


class _Https(HTTPSHandler):
    def __init__(self, alive: Request) -> None:
        super().__init__()
        self._patient_alive = alive

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_PatientTls, alive=self._patient_alive), req)
