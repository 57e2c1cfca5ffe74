"""Through a gateway: records as spool segments over HTTP, answers asked of it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from runtide.gateway.access import GatewayAccess
from runtide.gateway.calls import GatewayAway, GatewayChannel
from runtide.gateway.window import GatewayWindow
from runtide.publisher.transport import OnTrouble, Request
from runtide_schemas.codec import decode
from runtide_schemas.errors import TransientError

_LONGEST_WAIT_S = 20.0
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class GatewayTransport:
    """The way to the log where only HTTP gets through."""

    access: GatewayAccess

    @property
    def address(self) -> str:
        """The gateway's URL."""
        return self.access.url

    def window(self, on_trouble: OnTrouble) -> GatewayWindow:
        """Return a new window."""
        return GatewayWindow(self.access, on_trouble)

    async def answer(self, request: Request, deadline: float) -> Any:
        """Make a request and ask the gateway, which waits with us, until its answer is there."""
        path = f"/requests/{quote(request.send(), safe='')}/answer"
        channel, trouble = GatewayChannel(self.access), "it has no answer yet"
        try:
            while (left := deadline - time.monotonic()) > 0:
                wait = min(left, _LONGEST_WAIT_S)
                try:
                    response = await channel.call("GET", f"{path}?wait={wait:.1f}", timeout_s=wait + 5)
                    if response.body:
                        return decode(response.body)
                except GatewayAway as error:
                    trouble = str(error)
                await asyncio.sleep(_PAUSE_S)
            raise TransientError(f"the gateway {self.access.url}: {trouble}")
        finally:
            channel.close()
