"""How records leave this process: what the publisher needs of Kafka, or of whatever stands in for it."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from runtide.outgoing import Outgoing

OnTrouble = Callable[[str, str], None]
"""Hears in words about every failed connection or delivery, and "" when it works again; then ``Window.refused``."""


class Window(Protocol):
    """Records on their way. Belongs to one event loop."""

    @property
    def refused(self) -> str:
        """Why nobody will ever take them, as the settings are; empty when that is not known."""

    def submit(self, record: Outgoing) -> None:
        """Queue a record; it is sent after those of its writer and topic that were submitted before."""

    def mention(self, record: Outgoing) -> None:
        """Send a record once, if the way works now, beside the others: it may get lost, and it must hold up nothing."""

    def forget(self, records: Iterable[Outgoing]) -> None:
        """Let records go that somebody else will deliver. They may have been delivered, or not: nobody knows."""

    async def run(self) -> None:
        """Deliver until cancelled: again and again, until each record is acknowledged."""


class Request(Protocol):
    """A request to the registrar, in the spool or about to be."""

    def send(self) -> str:
        """Put it in the spool, once; return its id."""


class Transport(Protocol):
    """A way to the log."""

    @property
    def address(self) -> str:
        """Which log it leads to, as far as one can tell by its address."""

    def window(self, on_trouble: OnTrouble) -> Window:
        """Return a new window, nothing of it connected."""

    async def answer(self, request: Request, deadline: float) -> Any:
        """Make a request and return the fact that answers it, before ``deadline`` (of ``time.monotonic``).

        Raises:
            TransientError, TimeoutError: it could not be read in time; the request may have been made.
            FatalError: it cannot be read, as the settings are.
        """
