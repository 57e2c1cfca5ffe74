"""Ports: the ones asked for, the ones used last, or any free one; never a guess that fails later."""

import errno
import socket
from collections.abc import Mapping

from runtide_schemas.errors import FatalError

DEFAULT_PORTS: dict[str, int] = {"broker": 9092, "postgres": 5433, "gateway": 5050, "history": 0}
"""What ``runtide up`` listens on when nothing else is said; 0 is any free port."""


class PortInUseError(FatalError):
    """Another process listens where a service was to listen."""


def choose_ports(wanted: Mapping[str, int], used_last: Mapping[str, int], host: str = "127.0.0.1") -> dict[str, int]:
    """Return a free port per service: the wanted one, for 0 the one used last if it is free, else any.

    Raises:
        PortInUseError: a port that was asked for is in use.
    """
    chosen: dict[str, int] = {}
    for service, port in wanted.items():
        if port and not is_free(port, host):
            raise PortInUseError(
                f"Port {port} on {host} is in use, and {service} was to listen there. Stop what uses it "
                f"(`ss -ltnp 'sport = :{port}'` names it), or choose another with --{service.partition('-')[0]}-port (0 = any free port)."
            )
        chosen[service] = port or _free_port(used_last.get(service, 0), set(chosen.values()), host)
    return chosen


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def _free_port(used_last: int, taken: set[int], host: str) -> int:
    if used_last and used_last not in taken and is_free(used_last, host):
        return used_last
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port
