"""The publishers of this process, one per destination."""

import atexit
import ctypes
import os
import threading

from runtide.connection import Connection
from runtide.publisher.publisher import Publisher
from runtide.spool.writer_spool import WriterSpool

_publishers: dict[str, Publisher] = {}
_lock = threading.RLock()


def publish(spool: WriterSpool, connection: Connection) -> Publisher:
    """Have a spool shipped; return the publisher that does."""
    with _lock:
        while not (publisher := publisher_for(connection)).add(spool):
            del _publishers[connection.destination]
        return publisher


def publisher_for(connection: Connection) -> Publisher:
    """Return the publisher for a destination; made when there is none that lives."""
    with _lock:
        publisher = _publishers.get(connection.destination)
        if publisher is None or not publisher.alive:
            publisher = Publisher(connection.transport())
            _publishers[connection.destination] = publisher
        return publisher


def stop_all() -> None:
    """End the threads of this process."""
    with _lock:
        for publisher in _publishers.values():
            publisher.stop()
        _publishers.clear()


def _abandon_in_child() -> None:
    """Forget the parent's publishers, whose threads fork did not copy.

    They are kept alive for ever: finalising an inherited event loop would take the parent's sockets out of the epoll
    set that parent and child share.
    """
    global _publishers, _lock
    for publisher in _publishers.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(publisher))
    _publishers = {}
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_abandon_in_child)
atexit.register(stop_all)
