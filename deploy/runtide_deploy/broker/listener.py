"""The one listener: bound, secured as the settings say, and with a warning where anyone could connect."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from runtide_deploy.broker.errors import CannotStart
from runtide_deploy.broker.listener_settings import ListenerSettings

_BACKLOG: Final = 128
logger = logging.getLogger(__name__)

MakeConnection = Callable[[], asyncio.BufferedProtocol]
HasRoom = Callable[[int], bool]


class Listener(Protocol):
    """What accepts connections until it is closed: asyncio's server, or ours for TLS."""

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The bound sockets."""
        ...

    def close(self) -> None:
        """Accept no more connections; those that are open stay."""
        ...


async def listen(settings: ListenerSettings, make_connection: MakeConnection, has_room: HasRoom) -> Listener:
    """Bind and accept connections.

    Args:
        settings: checked already (``ListenerSettings.check``).
        make_connection: makes the protocol of each connection.
        has_room: says whether one more connection may come, beside so many that are not made yet.

    Raises:
        CannotStart: the address cannot be bound, or the files of TLS cannot be used.
    """
    try:
        listener = await _bind(settings, make_connection, has_room)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"port {settings.port} on {settings.host} is in use by another program; choose another with --port "
                "(RUNTIDE_BROKER_PORT), or 0 for any free one"
            ) from error
        raise CannotStart(
            f"cannot listen on {settings.host}:{settings.port}: {error}; check --host and --port"
        ) from error
    _warn(settings, [one.getsockname()[0] for one in listener.sockets])
    return listener


async def _bind(settings: ListenerSettings, make_connection: MakeConnection, has_room: HasRoom) -> Listener:
    loop = asyncio.get_running_loop()
    if not settings.uses_tls:
        return await loop.create_server(make_connection, settings.host, settings.port)
    # Imported late: OpenSSL takes time and memory that a broker on loopback need not pay.
    from runtide_deploy.broker.security.tls import server_context
    from runtide_deploy.broker.security.tls_listener import TlsListener

    context = server_context(settings)
    sockets = await _bound_sockets(settings.host, settings.port)
    return TlsListener(sockets, context, make_connection, has_room, settings.authentication_timeout_ms / 1000)


async def _bound_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind every address that the host name has, as asyncio's server does."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(_BACKLOG)
            one.setblocking(False)
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound


def _warn(settings: ListenerSettings, addresses: Sequence[str]) -> None:
    """Say what whoever reaches the port can do, where that is more than this machine."""
    if all(address.startswith("127.") or address == "::1" for address in addresses):
        return
    where = f"{settings.host or '*'}:{settings.port}"
    if not settings.uses_sasl and settings.client_auth != "required":
        logger.warning(
            "listening on %s without authentication: whoever reaches this port may read, write and delete everything; "
            "set --credentials (RUNTIDE_BROKER_CREDENTIALS) and --tls-certificate (RUNTIDE_BROKER_TLS_CERTIFICATE)",
            where,
        )
    elif not settings.uses_tls:
        clear = " and the passwords of SASL/PLAIN" if "PLAIN" in settings.mechanisms else ""
        logger.warning(
            "listening on %s without TLS: whoever is on the way can read and change everything sent%s; "
            "set --tls-certificate (RUNTIDE_BROKER_TLS_CERTIFICATE)",
            *(where, clear),
        )
