"""Threads that accompany a run: they log beside the training, stop when it ends, and never raise into it."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from runtide.messages import say


class Companion(Protocol):
    """Something that goes on while a run does."""

    def stop(self, timeout: float) -> None:
        """Log what is left and stop, within ``timeout`` seconds."""

    def abandon(self) -> None:
        """In a forked child, which has no such thread: let go of everything, and log nothing."""


def stop_all(companions: list[Companion], deadline: float) -> bool:
    """Stop the last that began first, and forget each; False when Ctrl-C ended the waiting: then they are only told to stop.

    Args:
        companions: emptied.
        deadline: of the monotonic clock.
    """
    waited = True
    while companions:
        try:
            companions.pop().stop(max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            waited, deadline = False, 0.0
    return waited


class Errand:
    """One piece of work for a run, done in the background once."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        """Start; what it raises is said, and the run goes on."""
        self._name = name
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"runtide-{name}", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Wait for it."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def abandon(self) -> None:
        """The parent does it."""

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the training
            say(f"could not capture {self._name}: {type(error).__name__}: {error}")


class Ticker:
    """Work for a run at an interval, and once more at its end."""

    def __init__(self, name: str, interval: float, tick: Callable[[], object]) -> None:
        """Start; the first tick comes at once. What a tick raises is said once, and the next one is tried."""
        self._name = name
        self._interval = interval
        self._tick = tick
        self._said = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"runtide-{name}", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Tick a last time and stop. A tick that takes longer may fail for want of a run, silently."""
        self._ending.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
            self._said = self._said or self._thread.is_alive()

    def _run(self) -> None:
        while True:
            ending = self._ending.is_set()
            self._once()
            if ending:
                return
            self._ending.wait(self._interval)

    def _once(self) -> None:
        try:
            self._tick()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the training
            if not self._said:
                self._said = True
                say(f"could not capture {self._name}: {type(error).__name__}: {error}. It is tried again, silently")
