"""Questions to a gateway that refuses, is busy or is none, and answers that find no room here: over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from runtide.gateway import asking
from runtide.gateway.access import GatewayAccess
from runtide.gateway.asking import Asking, Question
from runtide.gateway.calls import NoEntry, TooLarge
from runtide.gateway.files import _save
from runtide_schemas.errors import InvalidRequest, NotFound, RuntideError, TransientError
from tests.unit.http_server import ScriptedServer, answer, scripted_server


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server(lambda _: answer(200, b'{"a": 1}')) as server:
        yield server


async def asked(server: ScriptedServer) -> object:
    conversation = Asking(GatewayAccess(server.url))
    try:
        return await asyncio.to_thread(conversation.json, Question("GET", "/x?secret=1", {}))
    finally:
        conversation.close()


@pytest.mark.parametrize("target", ["/proc/nowhere/file", "/dev/full"])
async def test_a_disk_that_takes_nothing_is_said_at_once_and_is_not_the_gateways_fault(
    server: ScriptedServer, target: str
) -> None:
    conversation, before = Asking(GatewayAccess(server.url)), time.monotonic()
    with pytest.raises(TransientError, match=f"{target} cannot be written: No "):
        await asyncio.to_thread(conversation.ask, Question("GET", "/x", {}), partial(_save, target=Path(target)))
    assert time.monotonic() - before < asking.PATIENCE_S
    assert len(server.heads) == 1
    conversation.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507])
async def test_what_passes_is_asked_again(server: ScriptedServer, status: int) -> None:
    server.answers = [answer(status, b"busy")]
    assert await asked(server) == {"a": 1}
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, b'{"error_code": "RESOURCE_CONFLICT", "message": "no"}', InvalidRequest, "GET /x with 400: no"),
        (401, b"", NoEntry, "RUNTIDE_GATEWAY_TOKEN"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "Host is not served"}', NoEntry, "Host is not served"),
        (404, b"<html>", NoEntry, "no Runtide gateway"),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such artifact"}', NotFound, "No such artifact"),
        (302, b"", NoEntry, "no Runtide gateway"),
        (413, b"", TooLarge, "413"),
        (501, b'{"error_code": "NOT_IMPLEMENTED", "message": "keeps no artifacts"}', InvalidRequest, "keeps no artifacts"),
    ],
)  # fmt: skip
async def test_what_will_not_pass_is_said_at_once_as_the_window_says_it(
    server: ScriptedServer, status: int, body: bytes, kind: type[RuntideError], says: str
) -> None:
    server.answers = [answer(status, body)]
    with pytest.raises(RuntideError, match=says) as refused:
        await asked(server)
    assert type(refused.value) is kind
    assert "secret" not in str(refused.value)
    assert len(server.heads) == 1
    if status == 400:
        assert getattr(refused.value, "code", "") == "RESOURCE_CONFLICT"


async def test_it_comes_back_when_the_gateway_said_and_not_after_its_patience(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers, before = [answer(503, b"", "Retry-After: 1")], time.monotonic()
    assert await asked(server) == {"a": 1}
    assert time.monotonic() - before >= 1
    monkeypatch.setattr(asking, "PATIENCE_S", 0.3)
    server.answers, before = [answer(503, b"later", "Retry-After: 60")] * 2, time.monotonic()
    with pytest.raises(TransientError, match="503: later"):
        await asked(server)
    assert time.monotonic() - before < 60
