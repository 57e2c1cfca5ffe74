"""Hostile input on every route of a whole stack: an answer below 500, no traceback, no file outside, no memory without bound."""

import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import psutil
import pytest

from runtide_queries.server.app import ROUTES
from runtide_queries.server.body_limits import body_limits
from runtide_queries.server.policy import Route
from runtide_queries.server.settings import GatewaySettings
from tests.acceptance.stack import RunningStack, eventually, running_stack
from tests.hostile_requests import MARK, RUN, Hostile, requests_for, some
from tests.raw_http import RawHttp

pytestmark = pytest.mark.gate

SOME = 6
"""Requests for each route in the tier of every day."""
MOST_GROWTH_BYTES = 256 * 1024 * 1024
MAY_BE_MISSING = {501}
"""What a route may say of what is not offered."""
TRAINING = f"""
import os, runtide

os.environ["RUNTIDE_RUN_ID"] = "{RUN}"
runtide.init(experiment="hostile")
with runtide.start_run(name="r") as run:
    run.log_metric("loss", 1.0, step=0)
"""


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("hostile") / "data") as running:
        training = running.python(TRAINING)
        assert training.wait(120) == 0, training.communicate()[1]
        yield running


def limit_of(route: Route) -> int:
    most = body_limits(ROUTES, GatewaySettings().max_body_bytes)
    return most({"method": route.method, "path": route.path.replace("{", "").replace("}", "")})


def faults(stack: RunningStack, requests: Iterable[Hostile]) -> list[str]:
    """Send them all and return those that were not answered as they should be."""
    found = []
    with RawHttp(stack.file.gateway) as connection:
        for request in requests:
            answer = connection.send(request.method, request.target, request.headers, request.body)
            if not (200 <= answer.status < 500 or answer.status in MAY_BE_MISSING):
                found.append(f"{answer.status} {request}: {answer.body[:300]!r}")
            if b"Traceback" in answer.body or b"root:" in answer.body or b"asyncpg" in answer.body:
                found.append(f"{request} told inner things: {answer.body[:300]!r}")
    return found


def outside(stack: RunningStack) -> list[Path]:
    """Return every file of a hostile name that is not below the artifact root."""
    inside = stack.data / "artifacts"
    places = [Path("/tmp"), Path("/"), Path.cwd(), Path.home()]
    found = [path for place in places for path in place.glob(f"*{MARK}*")]
    # Not by rglob: a folder that goes away while it looks would end it.
    below = [Path(folder, name) for folder, *names in os.walk(stack.data.parent) for name in chain(*names)]
    found += [path for path in below if MARK in path.name and not path.is_relative_to(inside)]
    return found


def check(stack: RunningStack, requests: Iterable[Hostile]) -> None:
    gateway = psutil.Process(stack.services()["gateway"])
    before = gateway.memory_info().rss
    assert faults(stack, requests) == []
    assert outside(stack) == []
    log = (stack.data / "logs" / "gateway.log").read_text(errors="replace")
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
    assert gateway.is_running()
    assert gateway.memory_info().rss - before < MOST_GROWTH_BYTES


def test_some_hostile_requests_on_every_route(own_stack: RunningStack) -> None:
    check(own_stack, [request for route in ROUTES for request in some(route, limit_of(route), SOME, "every day")])
    eventually(lambda: own_stack.get("/ready")["ready"], "all is well afterwards")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_hostile_request_on_every_route(own_stack: RunningStack, route: Route) -> None:
    check(own_stack, requests_for(route, limit_of(route)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_seeds(own_stack: RunningStack) -> None:
    seed = os.environ.get("RUNTIDE_HOSTILE_SEED", str(time.time_ns()))
    print(f"RUNTIDE_HOSTILE_SEED={seed}")
    check(own_stack, [request for route in ROUTES for request in some(route, limit_of(route), 150, seed)])


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000_000, b"GET /" + b"a" * 20_000_000, b"X: y\r\n" * 1_000_000, b"\x16\x03\x01\x02\x00\x01" * 100,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda head: head[:24].decode("latin-1"),
)  # fmt: skip
def test_heads_that_are_none_or_have_no_end(own_stack: RunningStack, head: bytes) -> None:
    gateway = psutil.Process(own_stack.services()["gateway"])
    before = gateway.memory_info().rss
    with RawHttp(own_stack.file.gateway) as connection:
        sending = connection._connected()
        try:
            sending.sendall(head)
            sending.shutdown(1)
        except OSError:
            pass  # it was cut off, as it should be
        try:
            answer = sending.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431"), answer[:200]
    assert gateway.memory_info().rss - before < 16 * 1024 * 1024
    assert own_stack.get("/health") == {"status": "ok"}
