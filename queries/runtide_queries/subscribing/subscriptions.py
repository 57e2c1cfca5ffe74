"""Everyone who subscribes: events as server-sent events (WHATWG HTML, section 9.2), how many at a time, and their end.

Each event's id is where its reader stands after it: the next offset of every partition. A client that was cut off sends the last
one (``Last-Event-ID``) and gets what comes after it, once: nothing is kept here between two connections.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runtide.kafka import KafkaSettings
from runtide_queries.log import LoggedEvent
from runtide_queries.subscribing.feed import Feed, Wanted
from runtide_queries.subscribing.outbox import Outbox
from runtide_queries.subscribing.places import Gone, Places, places_text
from runtide_schemas.errors import InvalidRequest, RuntideError

SLOW, GONE, FAILED, STOPPED = "slow", "gone", "failed", "stopped"
"""Event types of the last event of a stream that we end; those of the log begin with a capital letter."""
RETRY_MS = 2_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What subscribers may take.

    Attributes:
        most: subscribers at a time.
        most_bytes: bytes that wait for one that is slow.
        patience_s: how long there may be no room for another event before it is cut off.
        heartbeat_s: silence after which a comment is sent.
    """

    most: int = 64
    most_bytes: int = 1024 * 1024
    patience_s: float = 30.0
    heartbeat_s: float = 15.0


class Subscriptions:
    """Every stream of a gateway. Belongs to one event loop.

    Attributes:
        slow: streams that were ended because their client did not keep up.
    """

    def __init__(self, kafka: KafkaSettings, bounds: Bounds, to_json: Callable[[LoggedEvent], Any]) -> None:
        """``to_json`` returns what is told of an event, as plain values."""
        self._kafka, self._bounds, self._to_json = kafka, bounds, to_json
        self._readers: set[asyncio.Task[None]] = set()
        self._streams: set[Stream] = set()
        self._opening = 0
        self._stopped = False
        self.slow = 0

    @property
    def open(self) -> int:
        """Streams that go on now."""
        return len(self._streams) + self._opening

    async def begin(self, wanted: Wanted) -> "Stream":
        """Return a stream of events that begins where it is wanted to; whoever is done with it closes it.

        Raises:
            InvalidRequest: it cannot begin there, or there are too many subscribers.
            TransientError, FatalError: the log is away, or does not let us in.
        """
        if self.open >= self._bounds.most:
            raise InvalidRequest(
                f"{self.open} clients are subscribed, which is as many as may be (RUNTIDE_GATEWAY_SUBSCRIBERS); try again later",
                "REQUEST_LIMIT_EXCEEDED",
            )
        outbox = Outbox(self._bounds.most_bytes)
        self._opening += 1
        try:
            feed = await Feed.open(self._kafka, wanted)
        except Gone as error:
            outbox.end(_gone(error))
            return self._kept(Stream(outbox, None, self._streams.discard, self._bounds.patience_s))
        finally:
            self._opening -= 1
        outbox.begin(b"retry: %d\n%s" % (RETRY_MS, _heartbeat(feed.places)))
        # A task of its own: a client who goes takes the stream along at once, and the log's connection is closed all the same.
        reader = asyncio.create_task(self._read(feed, outbox), name="subscriber")
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return self._kept(Stream(outbox, reader, self._streams.discard, self._bounds.patience_s))

    def end(self) -> None:
        """End every stream, with a word to its client, who may come back."""
        self._stopped = True
        for stream in self._streams:
            stream.end(_STOPPED_FRAME)

    async def close(self) -> None:
        """End every stream and wait until their connections to the log are closed."""
        self.end()
        readers = tuple(self._readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    def _kept(self, stream: "Stream") -> "Stream":
        self._streams.add(stream)
        if self._stopped:
            stream.end(_STOPPED_FRAME)
        return stream

    async def _read(self, feed: Feed, outbox: Outbox) -> None:
        try:
            await self._pass_on(feed, outbox)
        except TimeoutError:
            self.slow += 1
            waited = f"events waited for {self._bounds.patience_s:g} s and were not taken"
            outbox.end(_frame(SLOW, {"message": f"{waited}; resume with the last id"}))
        except Gone as error:
            outbox.end(_gone(error))
        except RuntideError as error:
            _log.warning("a subscriber's stream ended: %s", error)
            outbox.end(_frame(FAILED, {"message": f"{error}; resume with the last id"}))
        except Exception:  # noqa: BLE001  # the client is told, the log has it
            _log.exception("a subscriber's stream failed")
            outbox.end(_frame(FAILED, {"message": "internal error; the gateway's log has the details"}))
        finally:
            outbox.end()
            await feed.close()

    async def _pass_on(self, feed: Feed, outbox: Outbox) -> None:
        bounds, now = self._bounds, asyncio.get_running_loop().time
        looked = now()
        while True:
            events = await feed.read(bounds.heartbeat_s)
            for event, places in events:
                told = _frame(event.envelope.type, self._to_json(event), places)
                await outbox.put(told, bounds.patience_s)
            if not events:
                await outbox.put(_heartbeat(feed.places), bounds.patience_s)
            if now() - looked >= bounds.heartbeat_s:
                await feed.find_new_partitions()
                looked = now()


class Stream:
    """One subscriber's stream.

    Attributes:
        patience_s: how long a client may take nothing of what it is sent before it is given up.
    """

    def __init__(
        self,
        outbox: Outbox,
        reader: "asyncio.Task[None] | None",
        closed: "Callable[[Stream], None]",
        patience_s: float,
    ) -> None:
        self._outbox, self._reader, self._closed = outbox, reader, closed
        self.patience_s = patience_s

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield what is to be sent, until the stream ends."""
        while frames := await self._outbox.take():
            yield frames

    def end(self, last: bytes) -> None:
        """End it with a last frame, after what waits already."""
        self._outbox.end(last)

    def close(self) -> None:
        """Forget it, sent or not."""
        if self._reader is not None:
            self._reader.cancel()
        self._closed(self)


def _frame(event: str, data: Mapping[str, Any], places: Places | None = None) -> bytes:
    stands = f"id: {places_text(places)}\n" if places is not None else ""
    return f"{stands}event: {event}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


def _heartbeat(places: Places) -> bytes:
    """Return a comment; with an id, which browsers keep although no event comes of it: filtered events are not read twice."""
    return f": still here\nid: {places_text(places)}\n\n".encode()


def _gone(error: Gone) -> bytes:
    data = {"status": 410, "error_code": "GONE", "message": str(error), "first": places_text(error.first)}
    return _frame(GONE, data)


_STOPPED_FRAME = _frame(STOPPED, {"message": "the gateway stops; resume with the last id"})
