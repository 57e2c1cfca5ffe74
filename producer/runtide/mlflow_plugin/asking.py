"""Requests to the registrar from outside of any run: one writer for as long as the process lives."""

import atexit
import os
import threading
import weakref
from typing import Any

from runtide.catalogue import ask
from runtide.tracking.configuration import Configuration
from runtide.tracking.leftovers import say_leftover
from runtide.tracking.writer import Writer

ANSWER_WAIT_S = 5.0
"""How long a request waits for the registrar. It is kept when that is not enough."""

_askings: "weakref.WeakSet[Asking]" = weakref.WeakSet()


class Asking:
    """Makes requests in the name of this process; a forked child makes its own in its own name."""

    def __init__(self, configuration: Configuration) -> None:
        """Open nothing yet."""
        self._configuration = configuration
        self._opening = threading.Lock()
        self._writer: Writer | None = None
        self._inherited: list[Writer] = []
        _askings.add(self)

    def ask(self, request: object) -> Any:
        """Return the registrar's answer.

        Raises:
            InvalidRequest: it refused, with its code.
            AnswerPending: no answer in time, or no broker; the request is kept and will be decided.
        """
        return ask(self._open(), request, ANSWER_WAIT_S)

    def became_child(self) -> None:
        """In a forked child: the writer stays the parent's."""
        self._opening = threading.Lock()
        if self._writer is not None:
            self._writer.abandon_in_child()
            self._inherited.append(self._writer)  # kept, so that nothing of the parent's is finalised here
            self._writer = None

    def _open(self) -> Writer:
        with self._opening:
            if self._writer is None:
                self._writer = Writer(self._configuration, "")
                atexit.register(self._close, os.getpid())
            return self._writer

    def _close(self, pid: int) -> None:
        if pid != os.getpid() or self._writer is None:
            return
        writer, self._writer = self._writer, None
        known_to_be_away = writer.connection.offline or bool(writer.publisher.trouble)
        deadline = 0.0 if known_to_be_away else self._configuration.settings.exit_deadline
        say_leftover("requests", writer.close("finished", deadline))


def _in_child() -> None:
    for asking in list(_askings):
        asking.became_child()


os.register_at_fork(after_in_child=_in_child)
