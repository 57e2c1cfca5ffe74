"""Files that come as a request's body: stored in bounded memory, checked, stated in the log."""

from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from runtide_queries.artifacts import Stored, Storing
from runtide_queries.artifacts.storage import too_large
from runtide_queries.server.answers import Json, refusal
from runtide_queries.server.artifact_answers import CHUNK_BYTES
from runtide_queries.server.artifact_facts import stated_by_client
from runtide_queries.server.digests import announced_sha256
from runtide_queries.server.stores import Stores

AS_THE_SETTING_SAYS = 2**63 - 1
"""A body's limit of routes that count it themselves, against the setting ``artifact_bytes``."""


async def store_body(request: Request, stores: Stores, path: str, most: int) -> Json:
    """Store a body of at most ``most`` bytes as a file, in place of one that is there; answer its size and SHA-256.

    What MLflow's clients store for a run is stated in the log before they are answered.
    """
    expected = announced_sha256(request.headers.get("content-digest", ""))
    if int(request.headers.get("content-length", "0")) > most:
        return refusal("INVALID_PARAMETER_VALUE", str(too_large(most)), status=413)
    try:
        async with stores.artifacts.storing(path) as storing:
            await take_body(request, storing, most)
            await storing.keep(expected)
    except ClientDisconnect:
        return gone()
    stored = Stored(storing.size, storing.sha256)
    if not stated_by_client(request):
        await stores.artifact_facts.stored(path, stored)
    return Json(stored)


async def take_body(request: Request, storing: Storing, most: int) -> None:
    """Write a body of at most ``most`` bytes.

    Raises:
        InvalidRequest: it is longer.
        ClientDisconnect: it broke off.
    """
    async for chunk in _chunks(request):
        if storing.size + len(chunk) > most:
            raise too_large(most)
        await storing.write(chunk)


def gone() -> Json:
    """Return an answer for nobody: the client broke off, and nothing was stored."""
    return refusal("BAD_REQUEST", "the body broke off; nothing was stored")


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield a body in pieces worth a thread's while."""
    held = bytearray()
    async for data in request.stream():
        held += data
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
