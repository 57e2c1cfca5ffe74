"""Questions to a gateway that refuses, is busy or is none, and answers that find no room here: over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from runtide.gateway.access import GatewayAccess
from runtide.gateway.asking import Asking, Question
from runtide.gateway.files import _save
from runtide_schemas.errors import TransientError
from tests.unit.http_server import ScriptedServer, answer, scripted_server


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server(lambda _: answer(200, b'{"a": 1}')) as server:
        yield server


@pytest.mark.parametrize("target", ["/proc/nowhere/file", "/dev/full"])
async def test_a_disk_that_takes_nothing_is_said_at_once_and_is_not_the_gateways_fault(
    server: ScriptedServer, target: str
) -> None:
    conversation, before = Asking(GatewayAccess(server.url)), time.monotonic()
    with pytest.raises(TransientError, match=f"{target} cannot be written: No "):
        await asyncio.to_thread(conversation.ask, Question("GET", "/x", {}), partial(_save, target=Path(target)))
    assert time.monotonic() - before < 1
    assert len(server.heads) == 1
    conversation.close()
