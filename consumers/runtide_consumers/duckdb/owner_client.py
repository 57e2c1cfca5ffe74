"""The process that owns the DuckDB file, asked over HTTP by a rebuild."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

_TIMEOUT = httpx.Timeout(600.0, connect=2.0)
"""A snapshot is a copy of the whole file where the file system cannot share blocks."""

Positions = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Health:
    """Where the owner stands, the format that it reads and writes, and the hash of the code that it folds by."""

    positions: Positions
    format: int
    code: str


class OwnerClient:
    """Asks the owner at ``url``.

    Raises from every question:
        TransientError: it is away or busy.
        FatalError: it refuses the token, or fails.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def health(self) -> Health | None:
        """Return how the owner is; None when nobody listens there."""
        try:
            found = await self._ask("GET", "/health")
        except _NobodyListens:
            return None
        return Health(_positions(found), int(found["format"]), str(found.get("code", "")))

    async def snapshot(self) -> tuple[Path, Positions]:
        """Return the path of a consistent copy of the file, and where it stands."""
        found = await self._ask("POST", "/snapshot")
        return Path(found["path"]), _positions(found)

    async def halt(self, seconds: float) -> Positions:
        """Let the fold wait for so long, or until the exchange; return where it stands."""
        return _positions(await self._ask("POST", "/halt", {"seconds": seconds}))

    async def exchange(self, file: str, *, behind: bool) -> None:
        """Have the owner go on with another file.

        Raises:
            InvalidRequest: that file stands behind the live one, and ``behind`` is false.
        """
        await self._ask("POST", "/exchange", {"file": file, "behind": behind})

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            async with httpx.AsyncClient(headers=self._headers, timeout=_TIMEOUT, trust_env=False) as client:
                reply = await client.request(method, self._url + path, json=body)
        except httpx.ConnectError as error:
            raise _NobodyListens(f"nobody listens at {self._url}: {error}") from error
        except httpx.HTTPError as error:
            raise TransientError(f"no answer from the owner of the DuckDB file at {self._url}: {error}") from error
        if reply.status_code == 200:
            return reply.json()
        message = (
            f"the owner of the DuckDB file at {self._url} answered {reply.status_code} to {path}: {reply.text[:500]}"
        )
        if reply.status_code == 400:
            raise InvalidRequest(message)
        raise TransientError(message) if reply.status_code in {503, 504} else FatalError(message)


class _NobodyListens(TransientError):
    """No process listens there."""


def _positions(found: Any) -> Positions:
    return {
        TopicPartition(topic, int(partition)): int(offset)
        for topic, partitions in found["positions"].items()
        for partition, offset in partitions.items()
    }
