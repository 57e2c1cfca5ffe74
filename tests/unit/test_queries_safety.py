"""What every request passes first, on every path, known or not."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from runtide_queries.server.app import ROUTES
from runtide_queries.server.safety import SAFE_HEADERS
from tests.unit.test_queries_routes import HEALTH, app_with

PATHS = [HEALTH, "/", "/nothing", "/metrics", "/static/style.css", "/api/2.0/mlflow/runs/search"]
BODY_LIMIT = 1000


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """One app for all, as none of them changes it."""
    return app_with(max_body_bytes=BODY_LIMIT, allowed_hosts="runtide.example, other")


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5050") as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil:5050", "10.0.0.1", "[::2]:5050", "evil@127.0.0.1"],
)
async def test_foreign_hosts_are_refused(client: httpx.AsyncClient, path: str, host: str) -> None:
    reply = await client.get(path, headers={"host": host})
    assert reply.status_code == 403
    assert reply.json()["error_code"] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:5050", "127.0.0.1:1", "[::1]:5050", "LocalHost:5050", "runtide.example", "other:80"],
)
async def test_our_names_are_served(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get(HEALTH, headers={"host": host})).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:5050.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "something-new"},
    ],
)
async def test_other_sites_pages_are_refused(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        reply = await client.request(method, path, headers=headers)
        assert reply.status_code == 403


async def test_our_own_pages_and_followed_links_pass(client: httpx.AsyncClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    own = {"origin": "http://127.0.0.1:5050", "sec-fetch-site": "same-origin"}
    for headers in (followed, own, {"sec-fetch-site": "none"}, {}):
        assert (await client.get(HEALTH, headers=headers)).status_code == 200
    assert (await client.post(HEALTH, headers=followed)).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/a/%2e./b", "/%2e/a", "/a//b", "//evil.example/x", "/a%2F..%2Fb", "/%2e%2e/etc/passwd", "/a%5Cb", "/a%00b", "/a%0d%0aX-Y:z", "/a%7f",
        "/" + "a" * 5000, "/runs/%2e%2e%2f%2e%2e", "/api/runtide/v1/runs/x/metrics/..%2f..%2f",
    ],
)  # fmt: skip
async def test_paths_that_could_be_read_otherwise_are_refused(client: httpx.AsyncClient, path: str) -> None:
    request = client.build_request("GET", "http://127.0.0.1:5050/")
    request.url = httpx.URL("http://127.0.0.1:5050").copy_with(raw_path=path.encode())
    reply = await client.send(request)
    assert reply.status_code == 400
    assert reply.json()["error_code"] == "INVALID_PARAMETER_VALUE"


async def test_a_path_is_decoded_once(client: httpx.AsyncClient) -> None:
    request = client.build_request("GET", "http://127.0.0.1:5050/")
    request.url = httpx.URL("http://127.0.0.1:5050").copy_with(raw_path=b"/x%252e%252e%252fy")
    reply = await client.send(request)
    assert reply.status_code == 404
    assert "x%2e%2e%2fy" in reply.json()["message"]


async def test_large_bodies_are_refused_announced_or_not(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"sql": "'
        for _ in range(BODY_LIMIT):
            yield b"xx"
        yield b'"}'

    announced = await client.post("/api/runtide/v1/sql", json={"sql": "x" * BODY_LIMIT})
    assert announced.status_code == 413
    assert str(BODY_LIMIT) in announced.json()["message"]
    lying = await client.post("/api/runtide/v1/sql", content=b"{}", headers={"content-length": "-5"})
    assert lying.status_code == 413
    streamed = await client.post("/api/runtide/v1/sql", content=chunks(), headers={"content-type": "application/json"})
    assert streamed.status_code == 400


async def test_a_body_that_stops_is_given_up_and_one_that_goes_on_is_not() -> None:
    async def chunks(pauses: list[float]) -> AsyncIterator[bytes]:
        for pause in pauses:
            await asyncio.sleep(pause)
            yield b"[1,"

    async def answer_to(pauses: list[float]) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5050") as client:
            headers = {"content-type": "application/json"}
            return await client.post("/api/runtide/v1/sql", content=chunks(pauses), headers=headers)

    transport = httpx.ASGITransport(app_with(body_gap_seconds=2.0))
    steady, stopped = await asyncio.gather(answer_to([0.1] * 25), answer_to([0.0, 600.0]))
    assert steady.status_code == 400, "it came whole, and is no JSON"
    assert stopped.status_code == 408
    assert "2 s" in stopped.json()["message"]
    assert stopped.headers["connection"] == "close"


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_carries_the_headers(client: httpx.AsyncClient, path: str) -> None:
    for headers in ({}, {"host": "evil.example"}):
        reply = await client.get(path, headers=headers)
        assert {name: reply.headers.get(name) for name in SAFE_HEADERS} == SAFE_HEADERS
        assert "script-src" not in reply.headers["content-security-policy"]
        assert "cache-control" in reply.headers
        assert "access-control-allow-origin" not in reply.headers


async def test_what_goes_wrong_inside_tells_nothing(client: httpx.AsyncClient) -> None:
    """No stores are open in this app, so a read fails inside in a way that nobody has foreseen."""
    reply = await client.get("/api/runtide/v1/models")
    assert reply.status_code == 500
    assert reply.json() == {
        "error_code": "INTERNAL_ERROR",
        "message": "internal error; the gateway's log has the details",
    }
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_the_style_sheet_and_the_icon_have_their_types(client: httpx.AsyncClient) -> None:
    assert (await client.get("/static/style.css")).headers["content-type"] == "text/css; charset=utf-8"
    assert (await client.get("/static/icon.svg")).headers["content-type"].startswith("image/svg+xml")


def test_every_page_is_a_get() -> None:
    assert {route.method for route in ROUTES if not route.path.startswith(("/api/", "/ajax-api/", "/v1/"))} == {"GET"}
