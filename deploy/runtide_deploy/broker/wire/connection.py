"""One client's connection: frames in, handlers called in order, answers out in the same order."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

from runtide_deploy.broker.api.registration import Api, codec, implementation
from runtide_deploy.broker.api.table import API_VERSIONS, APIS
from runtide_deploy.broker.errors import MalformedRequest, Overloaded
from runtide_deploy.broker.fetch_memory import Held, HeldAnswer
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import Codec, Message
from runtide_deploy.broker.wire.frames import FrameReader
from runtide_deploy.broker.wire.paced_writer import PacedWriter

if TYPE_CHECKING:
    from runtide_deploy.broker.security.sasl_session import SaslSession

_KEY_AND_VERSION_BYTES: Final = 4
_UNCOUNTED_BYTES: Final = 16 * 1024
"""What an answer may leave unsent without counting it among the memory of fetch answers."""
_UNAUTHENTICATED_FRAME_BYTES: Final = 16 * 1024
"""Largest request of a client that has not logged in. Apache Kafka's bound, 512 KiB, is for larger tokens
than ours (sasl.server.max.receive.size)."""
logger = logging.getLogger(__name__)


class Connections(Protocol):
    """What a connection needs from the server that holds it."""

    state: BrokerState

    def opened(self, connection: "Connection") -> bool:
        """Take a connection in; False when there are too many."""
        ...

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        ...

    def new_session(self, peer: str) -> "SaslSession | None":
        """Return the SASL session of a new connection; None when clients need not say who they are."""
        ...

    def hold(self, size: int) -> None:
        """Count bytes of a request that is not answered yet; negative when it was."""
        ...

    @property
    def is_full(self) -> bool:
        """True while unanswered requests take all the memory they may."""
        ...


@dataclass(slots=True)
class _Slot:
    """An answer's place in the order of a connection."""

    size: int
    correlation_id: int = 0
    codec: Codec | None = None
    response: Message = None
    held: Held | None = None
    is_ready: bool = False


class Connection(asyncio.BufferedProtocol):
    """A client's connection. Requests take effect in order; waiting for one does not hold up those behind it.

    Attributes:
        opened_at, last_heard: loop time of its beginning, and of the last bytes from the client.
    """

    def __init__(self, server: Connections) -> None:
        self._server = server
        self._frames = FrameReader(server.state.settings.max_request_bytes)
        self._waiting: deque[memoryview] = deque()
        self._slots: deque[_Slot] = deque()
        self._tasks: set[asyncio.Future[Message]] = set()
        self._writing: set[asyncio.Future[Message]] = set()
        self._can_write = True
        self._unsent: list[Held] = []
        self._paced: PacedWriter | None = None
        self._unread = (0, 0.0)
        self._large_held = 0
        self._reads = True
        self._draining = False
        self._transport: asyncio.Transport | None = None
        self.peer = "?"
        self._host = ""
        self._session: SaslSession | None = None
        self.opened_at = self.last_heard = asyncio.get_running_loop().time()

    @property
    def is_mid_frame(self) -> bool:
        """True while part of a request has arrived."""
        return self._frames.is_mid_frame

    @property
    def is_busy(self) -> bool:
        """True while a request waits for its answer."""
        return bool(self._slots or self._waiting)

    @property
    def awaits_authentication(self) -> bool:
        """True until the client has logged in, where it must."""
        return self._session is not None and not self._session.is_authenticated

    def unread_for(self, now: float) -> float:
        """Return for how many seconds the client has taken nothing of its answers; to be asked regularly."""
        left = 0 if self._can_write or self._transport is None else self._transport.get_write_buffer_size()
        left += 0 if self._paced is None else self._paced.left
        if not left or left != self._unread[0]:
            self._unread = (left, now)
        return now - self._unread[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place among the connections, or be closed at once."""
        self._transport = cast("asyncio.Transport", transport)
        if transport.get_extra_info("sslcontext") is not None:
            self._paced = PacedWriter(self._transport)
        host, port = (transport.get_extra_info("peername") or ("?", 0))[:2]
        self.peer, self._host = f"{host}:{port}", str(host)
        self._session = self._server.new_session(self.peer)
        if self._session is not None:
            self._frames.max_frame_bytes = _UNAUTHENTICATED_FRAME_BYTES
        if not self._server.opened(self):
            logger.warning(
                "closing connection from %s: %d connections are open (RUNTIDE_BROKER_MAX_CONNECTIONS)",
                self.peer,
                self._server.state.settings.max_connections,
            )
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        """Forget everything that waits: nobody is there to be answered."""
        for task in self._tasks - self._writing:
            task.cancel()
        self._server.hold(-sum(slot.size for slot in self._slots) - sum(map(len, self._waiting)))
        self._hold_large(0)
        self._slots.clear()
        self._unsent.clear()
        self._waiting.clear()
        self._paced = self._transport = None
        self._server.closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the protocol's signature
        """Return where the socket writes what it receives next."""
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the requests that are complete now."""
        self.last_heard = asyncio.get_running_loop().time()
        try:
            for frame in self._frames.received(nbytes):
                self._server.hold(len(frame))
                self._waiting.append(frame)
        except MalformedRequest as error:
            self.close_for(error)
            return
        self._hold_large(self._frames.large_bytes)
        self.proceed()

    def _hold_large(self, size: int) -> None:
        """Count the buffer of a large frame from its announcement on: it takes memory before it is complete."""
        if size != self._large_held:
            self._server.hold(size - self._large_held)
            self._large_held = size

    def eof_received(self) -> bool:
        """Close when the client is done sending; unanswered requests of it are dropped, as Kafka does."""
        return False

    def pause_writing(self) -> None:
        """Stop taking requests of a client that does not read its answers."""
        self._can_write = False
        self.proceed()

    def resume_writing(self) -> None:
        """Go on."""
        self._can_write = True
        if self._paced is not None and self._paced.left:
            self._push(self._paced)
        else:
            if self._unsent and self._transport is not None:
                self._transport.set_write_buffer_limits()
            self._unsent.clear()
        self.proceed()

    @property
    def _may_take(self) -> bool:
        return (
            self._can_write
            and not self._draining
            and self._transport is not None
            and not (self._session is not None and self._session.is_over)
            and len(self._slots) < self._server.state.settings.max_in_flight_requests
        )

    def proceed(self) -> None:
        """Take waiting requests and read more, as far as the bounds allow."""
        while self._waiting and self._may_take:
            self._take(self._waiting.popleft())
        if self._transport is None or self._transport.is_closing():
            return
        # A frame whose buffer is there may be completed, or a full budget could never empty.
        reads = self._may_take and (self._large_held > 0 or not self._server.is_full)
        if reads != self._reads:
            self._reads = reads
            (self._transport.resume_reading if reads else self._transport.pause_reading)()

    def _take(self, frame: memoryview) -> None:
        slot = _Slot(len(frame))
        self._slots.append(slot)
        try:
            self._dispatch(frame, slot)
        except MalformedRequest as error:
            self.close_for(error)
        except Exception:
            logger.exception("closing connection from %s: a request could not be handled", self.peer)
            self.abort()

    def _dispatch(self, frame: memoryview, slot: _Slot) -> None:
        key = int.from_bytes(frame[:2], "big", signed=True)
        version = int.from_bytes(frame[2:_KEY_AND_VERSION_BYTES], "big", signed=True)
        api = APIS.get(key)
        if api is None or not api.lowest <= version <= api.newest:
            self._refuse_version(key, version, frame, slot)
            return
        if self._session is not None and not self._session.admits(key):
            # Apache Kafka closes too: IllegalSaslStateException, "unexpected Kafka request during SASL handshake".
            raise MalformedRequest(
                f"API key {key} is not served before the client has logged in: its security.protocol must be "
                f"{self._server.state.settings.protocol}"
            )
        slot.codec = codec(api, version)
        header, request = slot.codec.decode(frame)
        slot.correlation_id = header.correlation_id
        context = RequestContext(self._server.state, version, header.client_id or "", self._host, self._session)
        answer = implementation(api).handle(request, context)
        if isinstance(answer, Awaitable):
            self._wait(answer, api, slot)
        else:
            self._answer(slot, answer)

    def _refuse_version(self, key: int, version: int, frame: memoryview, slot: _Slot) -> None:
        if key != API_VERSIONS.key:
            # What Apache Kafka does too: there is no answer that a client of that version could read.
            raise MalformedRequest(f"API key {key} version {version} is not served (ApiVersions says what is)")
        from runtide_deploy.broker.api.api_versions import refuse_version  # loaded for who needs it

        slot.codec = codec(API_VERSIONS, 0)
        slot.correlation_id = int.from_bytes(frame[4:8], "big", signed=True)
        self._answer(slot, refuse_version(self._server.state))

    def _wait(self, answer: Awaitable[Message], api: Api, slot: _Slot) -> None:
        task = asyncio.ensure_future(answer)
        self._tasks.add(task)
        if api.writes:
            self._writing.add(task)
        task.add_done_callback(lambda done: self._done(done, slot))

    def _done(self, task: "asyncio.Future[Message]", slot: _Slot) -> None:
        self._tasks.discard(task)
        self._writing.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Overloaded):
            self.close_for(error)
            return
        if error is not None:
            logger.error("closing connection from %s: a request could not be handled", self.peer, exc_info=error)
            self.abort()
            return
        self._answer(slot, task.result())
        self.proceed()

    def _answer(self, slot: _Slot, response: Message) -> None:
        if isinstance(response, HeldAnswer):
            response, slot.held = response
        slot.response, slot.is_ready = response, True
        while self._slots and self._slots[0].is_ready and self._transport is not None:
            ready = self._slots.popleft()
            self._server.hold(-ready.size)
            if ready.response is not None and ready.codec is not None:
                self._write(self._transport, ready.codec.encode(ready.correlation_id, ready.response), ready.held)
        if self._session is not None:
            self._follow(self._session)

    def _write(self, transport: asyncio.Transport, chunks: list[bytes | memoryview], held: Held | None) -> None:
        is_small = held is None or held.size <= _UNCOUNTED_BYTES
        if self._paced is not None and (self._paced.left or not is_small):
            self._unsent += [] if held is None else [held]
            self._paced.add(chunks)
            self._push(self._paced)
            return
        if held is None or is_small:
            transport.writelines(chunks)
            return
        # All of an answer's memory lives until its last byte is gone, so we must be told of that, not of the last but few.
        # Not 0: asyncio's TLS takes an empty buffer for a full one then.
        transport.set_write_buffer_limits(high=1, low=0)
        transport.writelines(chunks)
        if self._can_write:
            transport.set_write_buffer_limits()
        else:
            self._unsent.append(held)

    def _push(self, paced: PacedWriter) -> None:
        paced.push(lambda: self._can_write)
        if not paced.left:
            self._unsent.clear()

    def _follow(self, session: "SaslSession") -> None:
        """Do what has become of the session: go on with larger requests, or close once the answer is sent."""
        if session.is_authenticated:
            self._frames.max_frame_bytes = self._server.state.settings.max_request_bytes
        elif session.is_over and self._transport is not None:
            self._transport.close()

    def close_for(self, error: MalformedRequest | Overloaded | str) -> None:
        """Close this connection, and say why in the log."""
        if self._transport is not None and not self._transport.is_closing():
            logger.warning("closing connection from %s: %s", self.peer, error)
        self.abort()

    def abort(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self._server.hold(-sum(map(len, self._waiting)))
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    async def drain(self) -> None:
        """Take no more requests, answer the writes in progress, then close."""
        self._draining = True
        self.proceed()
        for task in self._tasks - self._writing:
            task.cancel()
        if self._writing:
            await asyncio.wait(tuple(self._writing))
        if self._transport is not None:
            self._transport.close()
