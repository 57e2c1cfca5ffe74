"""Subscribe to events: what the log says from a place on, as server-sent events."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Header, Query
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.stores import AskStores
from runtide_queries.subscribing import Stream, Wanted
from runtide_queries.subscribing.places import END, MAX_LENGTH
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.registry import EVENT_TYPES

Topic = Literal["runtide.catalog", "runtide.runs", "runtide.deployments"]
MEDIA_TYPE = "text/event-stream"
_NAMES = {
    name: {one.name for one in EVENT_TYPES.values() if one.topic == name}
    for name in (topics.CATALOG, topics.RUNS, topics.DEPLOYMENTS)
}
_GIVE_UP = 10
"""So many times the patience that lets a slow client be told so; then its connection is worth nothing any more."""
_log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """A stream that is closed however its sending ends, and is given up when its client takes nothing of it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        super().__init__(stream.frames(), media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()

    async def stream_response(self, send: Send) -> None:
        """Send all of it, or what the client takes."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for frames in self._stream.frames():
            if not await self._sent(send, frames, more=True):
                return
        await self._sent(send, b"", more=False)

    async def _sent(self, send: Send, frames: bytes, *, more: bool) -> bool:
        try:
            async with asyncio.timeout(_GIVE_UP * self._stream.patience_s):
                await send({"type": "http.response.body", "body": frames, "more_body": more})
        except TimeoutError:
            _log.warning("a subscriber took nothing for %g s and is given up", _GIVE_UP * self._stream.patience_s)
            return False
        return True


async def subscribe(
    stores: AskStores,
    topic: Topic = "runtide.catalog",
    types: Annotated[
        Sequence[str],
        Query(alias="type", max_length=100, description="Event types, as RunEnded; may be repeated. Left out: all."),
    ] = (),
    subject: Annotated[str, Query(max_length=1000, description="A run id, or name of a model or endpoint.")] = "",
    start: Annotated[
        str,
        Query(
            alias="from",
            max_length=MAX_LENGTH,
            description="Where to begin: beginning, end, the id of an event (what comes after it), or in a topic of one "
            "partition an offset (that record and what comes after it).",
        ),
    ] = END,
    last_event_id: Annotated[
        str, Header(max_length=MAX_LENGTH, description="The id of the last event that was got; counts more than from.")
    ] = "",
) -> EventStream:
    """Subscribe to a topic: each event with its type, and an id with which to go on (``Last-Event-ID``) after it.

    The id is the next offset of every partition. A comment comes when nothing else does. A stream that the gateway ends
    says why in its last event: ``slow`` (events were not taken), ``gone`` (retention has removed what comes next; ``first`` is where to
    go on), ``failed``, ``stopped``.
    """
    if unknown := sorted(set(types) - _NAMES[topic]):
        raise InvalidRequest(
            f"{topic} has no events of type {unknown[0][:100]!r}; it has {', '.join(sorted(_NAMES[topic]))}"
        )
    wanted = Wanted(topic=topic, start=last_event_id or start or END, types=frozenset(types), subject=subject)
    return EventStream(await stores.subscriptions.begin(wanted))


ROUTES = (Route("GET", f"{API}/events", subscribe, Policy.READ, "Subscribe to events", media=MEDIA_TYPE),)
