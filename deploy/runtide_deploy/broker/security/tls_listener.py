"""Accepting connections over TLS: a client becomes a connection when its handshake is done, and counts before."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from runtide_deploy.broker.security.tls import describe_failure

_REST_SECONDS: Final = 1.0
"""After an accept that failed: there are no more file descriptors, and asking again at once would not help."""
_SHUTDOWN_SECONDS: Final = 3.0
logger = logging.getLogger(__name__)


class TlsListener:
    """Accepts on bound sockets until closed.

    asyncio's own server tells nobody about handshakes in progress or failed ones: they could not be counted or named.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        make_connection: Callable[[], asyncio.BufferedProtocol],
        has_room: Callable[[int], bool],
        timeout: float,
    ) -> None:
        """Begin.

        Args:
            sockets: bound, listening, not blocking; closed with the listener.
            context: of the server's side.
            make_connection: makes the protocol of a connection.
            has_room: says whether one more may come, beside so many handshakes.
            timeout: seconds that a handshake may take.
        """
        self.sockets = sockets
        self._context = context
        self._make_connection = make_connection
        self._has_room = has_room
        self._timeout = timeout
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(one), name="accept-tls") for one in sockets]

    def close(self) -> None:
        """Accept no more, and end the handshakes in progress."""
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        for one in self.sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listening)
            except OSError as error:
                logger.error("cannot accept connections for %g s: %s", _REST_SECONDS, error)
                await asyncio.sleep(_REST_SECONDS)
                continue
            peer = f"{address[0]}:{address[1]}"
            if not self._has_room(len(self._handshakes)):
                logger.warning("closing connection from %s: too many are open (RUNTIDE_BROKER_MAX_CONNECTIONS)", peer)
                client.close()
                continue
            task = asyncio.create_task(self._shake_hands(client, peer), name="tls-handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, client: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_connection,
                client,
                ssl=self._context,
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except ssl.SSLError as error:
            logger.warning("closing connection from %s: TLS handshake failed: %s", peer, describe_failure(error))
        except ConnectionAbortedError:  # what both event loops make of a time-out
            logger.warning(
                "closing connection from %s: no TLS handshake within %g s (RUNTIDE_BROKER_AUTHENTICATION_TIMEOUT_MS)",
                *(peer, self._timeout),
            )
        except OSError as error:  # the client hung up, as port checks do
            logger.debug("connection from %s ended in its TLS handshake: %s", peer, error)
