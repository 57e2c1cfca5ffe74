"""Ports for processes that have to be told where to listen."""

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on, and that the kernel gives to nobody else while tests run.

    It is kept bound here and never listened on. Servers set ``SO_REUSEADDR``, as this does, so whoever is told the port can
    listen there, also after a restart; until then connections are refused.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    return int(held.getsockname()[1])
