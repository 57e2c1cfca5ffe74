"""URLs that open one thing for a while: with any other method, path, time or key they open nothing."""

import hashlib
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi import FastAPI, Request

from runtide_queries.server.access import Access
from runtide_queries.server.measures import Measures
from runtide_queries.server.settings import GatewaySettings
from runtide_queries.server.signed_urls import is_signed, signed_url

TOKEN = hashlib.sha256(b"token").hexdigest()
PATH = "/api/runtide/v1/signed-artifacts/run/ü b%2f?#.txt"


def request(method: str, path: str, query: str = "", token: str = TOKEN) -> Request:
    app = FastAPI()
    app.state.access = Access(GatewaySettings(token_sha256=token), Measures())
    scope = {
        "type": "http", "app": app, "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": [(b"host", b"localhost:5050")], "scheme": "http",
        "server": ("localhost", 5050), "root_path": "",
    }  # fmt: skip
    return Request(scope)


def signed(method: str = "PUT", seconds: int = 60) -> tuple[str, str]:
    """Return a URL's whole text and its query."""
    url = signed_url(request("POST", "/anything"), method, PATH, seconds)
    return url, urlsplit(url).query


def test_it_opens_what_it_was_signed_for() -> None:
    url, query = signed()
    assert url.startswith(
        "http://localhost:5050/api/runtide/v1/signed-artifacts/run/%C3%BC%20b%252f%3F%23.txt?expires="
    )
    assert is_signed(request("PUT", PATH, query))


def test_it_opens_nothing_else() -> None:
    _, query = signed()
    assert not is_signed(request("GET", PATH, query))
    assert not is_signed(request("PUT", PATH + "x", query))
    assert not is_signed(request("PUT", PATH, query, token=hashlib.sha256(b"other").hexdigest()))
    fields = dict(parse_qsl(query))
    later = int(fields["expires"]) + 1
    assert not is_signed(request("PUT", PATH, f"expires={later}&signature={fields['signature']}"))


@pytest.mark.parametrize(
    "query", ["", "expires=1", "expires=99999999999", "expires=99999999999&signature=", "expires=%C2%B2&signature=x",
              "expires=-1&signature=x", "expires=1e9&signature=x", "expires=99999999999&signature=%C3%BC"],
)  # fmt: skip
def test_what_is_not_signed(query: str) -> None:
    assert not is_signed(request("PUT", PATH, query))


def test_it_expires() -> None:
    _, query = signed(seconds=-1)
    assert not is_signed(request("PUT", PATH, query))
