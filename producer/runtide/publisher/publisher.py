"""The background thread: seals tails, sends what is in the spools, and notes what the broker has."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from runtide.publisher.event_loop import PublisherLoop
from runtide.publisher.lag import LagWatch
from runtide.publisher.shipment import Shipment
from runtide.publisher.shippable import Shippable
from runtide.publisher.sign_of_life import SignOfLife
from runtide.publisher.transport import Transport, Window
from runtide.spool.owner_state import Delivery

log = logging.getLogger("runtide")

T = TypeVar("T")

LINGER_S = 0.025
IDLE_S = 5.0
_LOCK_WAIT_S = 0.05
_POLL_S = 0.004
_MOST_EVENTS = 32


class Publisher:
    """Ships the spools that are added to it, for as long as there are any.

    Without a transport it only seals: everything stays in the spools.
    """

    def __init__(self, transport: Transport | None, linger: float = LINGER_S, idle: float = IDLE_S) -> None:
        """Start nothing yet.

        Args:
            transport: the way to the log; None for none.
            linger: seconds that points are gathered before they become an event.
            idle: seconds without a spool after which the thread ends.
        """
        self.trouble = ""
        """Why delivery fails at the moment; empty while it works."""
        self.refused = ""
        """Why nobody will ever let us in, as the settings are; empty while that is not known."""
        self._transport = transport
        self._linger = linger
        self._idle = idle
        self._loop = PublisherLoop()
        self._wake = asyncio.Event()
        self._adding = threading.RLock()
        self._spools: list[Shippable] = []
        self._shipments: dict[Shippable, Shipment] = {}
        self._failing: set[Shippable] = set()
        self._watches: dict[Shippable, LagWatch] = {}
        self._signs: dict[Shippable, SignOfLife] = {}
        self._window: Window | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="runtide-publisher", daemon=True)

    @property
    def delivery(self) -> Delivery:
        """How delivery is, for those who look at the spools from outside."""
        if self._transport is None:
            return "none"
        return "fails" if self.trouble else "works"

    @property
    def alive(self) -> bool:
        """False once it has stopped; make another one then."""
        return not self._stopping and (self._thread.is_alive() or self._thread.ident is None)

    def add(self, spool: Shippable) -> bool:
        """Start shipping a spool; False when the thread has just stopped."""
        with self._adding:
            if not self.alive:
                return False
            self._spools.append(spool)
            if self._thread.ident is None:
                self._thread.start()
            return True

    def watch(self, spool: Shippable, watch: LagWatch) -> None:
        """Have somebody told, in the thread, how far a spool's delivery is behind."""
        self._watches[spool] = watch

    def promise(self, spool: Shippable, sign: SignOfLife) -> None:
        """Have the log told, as often as is due and as long as delivery works, that the spool's writer lives."""
        self._signs[spool] = sign

    def remove(self, spool: Shippable, timeout: float = 2.0) -> bool:
        """Stop shipping a spool; False when the thread is stuck and may still use it."""
        with self._adding, contextlib.suppress(ValueError):
            self._spools.remove(spool)
        return self._until(lambda: spool not in self._shipments or not self._thread.is_alive(), timeout)

    def delivered(self, spool: Shippable, timeout: float) -> bool:
        """Wait until the broker has everything that is in the spool now; False when it has not in time."""
        deadline = time.monotonic() + timeout
        if not spool.seal_all(max(0.0, timeout)):
            return False
        wanted = spool.counts
        if self._transport is None:
            return not wanted
        return self._until(
            lambda: all(spool.acked(topic) >= count for topic, count in wanted.items()), deadline - time.monotonic()
        )

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the thread's event loop and return its result.

        Raises:
            TimeoutError: it took longer; it is cancelled.
        """
        with self._adding:
            if self._thread.ident is None:
                self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread. Spools keep what was not delivered."""
        with self._adding:
            self._stopping = True
        self._nudge()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _until(self, condition: Any, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline or not self._thread.is_alive():
                return bool(condition())
            self._nudge()
            time.sleep(_POLL_S)
        return True

    def _nudge(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended
            self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except Exception:
            self._stopping = True
            log.exception("the publisher stopped; what was logged stays in the spool until `runtide sync`")
        finally:
            self._loop.close()

    async def _main(self) -> None:
        window = None if self._transport is None else self._transport.window(self._say)
        self._window = window
        delivering = None if window is None else asyncio.create_task(window.run())
        idle_since = time.monotonic()
        while not self._stopping:
            self._check(delivering)
            for spool in self._current(window):
                idle_since = time.monotonic()
                self._serve(spool)
            if time.monotonic() - idle_since > self._idle:
                self._stop_if_unused()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._linger)
            self._wake.clear()
        self._shipments.clear()
        if delivering is not None:
            delivering.cancel()
            await asyncio.wait({delivering}, timeout=3)

    def _check(self, delivering: "asyncio.Task[None] | None") -> None:
        if delivering is not None and delivering.done():
            error = delivering.exception()
            self.trouble = f"delivery has ended: {'' if error is None else f'{type(error).__name__}: {error}'}"
            raise RuntimeError(self.trouble) from error

    def _current(self, window: Window | None) -> list[Shippable]:
        """Return the spools to serve; those that were removed are let go here, where nobody uses them."""
        spools = list(self._spools)
        for gone in self._shipments.keys() - set(spools):
            self._signs.pop(gone, None)
            if watch := self._watches.pop(gone, None):
                watch.tell(self._shipments[gone].lag(self.trouble))
            self._shipments[gone].release()  # ``remove`` waits for what comes next
            del self._shipments[gone]
            self._failing.discard(gone)
        for spool in spools:
            if spool not in self._shipments:
                self._shipments[spool] = Shipment(spool, window)
        return spools

    def _serve(self, spool: Shippable) -> None:
        try:
            if not spool.seal(_LOCK_WAIT_S, _MOST_EVENTS):
                self._wake.set()
            spool.maintain(self.delivery)
            self._shipments[spool].advance()
            spool.save_acknowledged()
            self._failing.discard(spool)
            if self._window is not None and not self.trouble and (sign := self._signs.get(spool)) and sign.due:
                self._window.mention(sign.record())
            if (watch := self._watches.get(spool)) and watch.due:
                watch.tell(self._shipments[spool].lag(self.trouble))
        except OSError as error:
            if spool not in self._failing:
                log.warning("cannot read or write the spool %s: %s. Tried again until it works", spool.directory, error)
            self._failing.add(spool)
        except Exception:
            log.exception("cannot serve the spool %s; what is in it stays there", spool.directory)
            with self._adding, contextlib.suppress(ValueError):
                self._spools.remove(spool)

    def _stop_if_unused(self) -> None:
        with self._adding:
            self._stopping = not self._spools

    def _say(self, text: str, refused: str) -> None:
        if text and (not self.trouble or (refused and not self.refused)):
            when = "that is put right" if refused else "it works again"
            log.warning("%s. Training goes on; everything is kept in the spool and sent when %s", text, when)
        elif not text:
            log.info("delivery works again")
        self.trouble, self.refused = text, refused
