"""The broker as a whole: opens the data directory, listens, and stops in order."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from runtide_deploy.broker.api.table import APIS
from runtide_deploy.broker.data_directory import DataDirectory
from runtide_deploy.broker.fetch_memory import FetchMemory
from runtide_deploy.broker.groups.coordinator import GroupCoordinator
from runtide_deploy.broker.groups.offsets import OffsetStore
from runtide_deploy.broker.listener import Listener, listen
from runtide_deploy.broker.log.group_commit import GroupCommit
from runtide_deploy.broker.log.read_buffers import ReadBuffers
from runtide_deploy.broker.retention import sweep_for_ever
from runtide_deploy.broker.settings import BrokerSettings
from runtide_deploy.broker.state import BrokerState
from runtide_deploy.broker.topics import Topics
from runtide_deploy.broker.wire.connection import Connection

if TYPE_CHECKING:
    from runtide_deploy.broker.security.authenticator import Authenticator
    from runtide_deploy.broker.security.sasl_session import SaslSession

_SWEEP_SECONDS: Final = 1.0
_SWEEPS_UNTIL_RELEASE: Final = 10
logger = logging.getLogger(__name__)


class Broker:
    """A running broker. Make one with ``Broker.start``.

    Attributes:
        failed: completes with an error when the broker must not go on (a failed sync); whoever runs it exits then.
    """

    def __init__(self, settings: BrokerSettings, directory: DataDirectory) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._commit = GroupCommit(settings.flush_delay_ms / 1000, self._fail)
        self.state = BrokerState(
            settings=settings,
            directory=directory,
            topics=Topics(directory.path, settings, self._commit),
            groups=GroupCoordinator(settings, OffsetStore(directory.path / "offsets.log", self._commit)),
            read_buffers=ReadBuffers(settings.read_buffer_bytes),
            fetch_memory=FetchMemory(settings.max_fetch_memory_bytes),
            served={key: (api.lowest, api.newest) for key, api in APIS.items()},
        )
        self._connections: set[Connection] = set()
        self._held_bytes = 0
        self._listener: Listener | None = None
        self._authenticator: Authenticator | None = None
        self._sweepers: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    @asynccontextmanager
    async def start(cls, settings: BrokerSettings) -> AsyncIterator["Broker"]:
        """Run a broker for the length of a ``with`` block.

        Raises:
            CannotStart: the data directory or the port cannot be used; the message says what to change.
        """
        settings.check()
        directory = DataDirectory(settings.data)
        try:
            broker = cls(settings, directory)
            try:
                broker.state.topics.open()
                broker.state.groups.offsets.open()
                await broker._listen()
                yield broker
            finally:
                await broker._stop()
        finally:
            directory.close()

    @property
    def address(self) -> str:
        """Where clients connect to, as ``host:port``."""
        return f"{self.state.host}:{self.state.port}"

    async def _listen(self) -> None:
        settings = self._settings
        if settings.uses_sasl and settings.credentials is not None:
            from runtide_deploy.broker.security.authenticator import Authenticator  # only who needs it pays for it

            self._authenticator = Authenticator(settings, settings.credentials)
        self._listener = await listen(settings, lambda: Connection(self), self._has_room)
        bound = self._listener.sockets[0].getsockname()[1]
        self.state.host, self.state.port = settings.advertised_host or settings.host, settings.advertised_port or bound
        logger.info("%s:%d speaks %s; clients are sent to %s", settings.host, bound, settings.protocol, self.address)
        self._sweepers = (
            asyncio.create_task(self._sweep(), name="sweep-connections"),
            asyncio.create_task(
                sweep_for_ever(self.state.topics, self._settings.retention_check_interval_ms), name="sweep-retention"
            ),
        )
        for sweeper in self._sweepers:
            sweeper.add_done_callback(_log_end)

    async def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for sweeper in self._sweepers:
            sweeper.cancel()
        await asyncio.gather(*self._sweepers, return_exceptions=True)
        if self._authenticator is not None:
            self._authenticator.close()
        self.state.groups.close()
        if not self.failed.done():
            await asyncio.gather(*(connection.drain() for connection in tuple(self._connections)))
            await self._commit.close()
            self.state.topics.close()
        for connection in tuple(self._connections):
            connection.abort()
        self.failed.cancel()

    def _fail(self, error: OSError) -> None:
        logger.critical("stopping: cannot sync the log to disk (%s); nothing written since is acknowledged", error)
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _sweep(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(_SWEEP_SECONDS)
            if not number % _SWEEPS_UNTIL_RELEASE:
                self.state.read_buffers.release_unused()
            now = asyncio.get_running_loop().time()
            for connection in tuple(self._connections):
                silent_ms = (now - connection.last_heard) * 1000
                if connection.is_mid_frame and silent_ms > self._settings.stalled_frame_ms:
                    connection.close_for(f"it stopped {silent_ms:.0f} ms ago in the middle of a request")
                elif connection.awaits_authentication and self._is_late(connection, now):
                    connection.close_for("it has not logged in in time (RUNTIDE_BROKER_AUTHENTICATION_TIMEOUT_MS)")
                elif self._withholds_memory(connection, now):
                    connection.close_for("it does not read its answers, and others wait for the memory that they take")
                elif not connection.is_busy and silent_ms > self._settings.idle_connection_ms:
                    connection.abort()

    def _withholds_memory(self, connection: Connection, now: float) -> bool:
        stalled_ms = connection.unread_for(now) * 1000
        return self.state.fetch_memory.was_short and stalled_ms > self._settings.stalled_answer_ms

    def _is_late(self, connection: Connection, now: float) -> bool:
        return (now - connection.opened_at) * 1000 > self._settings.authentication_timeout_ms

    def _has_room(self, waiting: int) -> bool:
        return len(self._connections) + waiting < self._settings.max_connections

    def new_session(self, peer: str) -> "SaslSession | None":
        """Return the SASL session of a new connection; None when clients need not say who they are."""
        return None if self._authenticator is None else self._authenticator.session(peer)

    def opened(self, connection: Connection) -> bool:
        """Take a connection in; False when there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= self._settings.max_connections

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def hold(self, size: int) -> None:
        """Count bytes of unanswered requests; let connections read on when enough were answered."""
        was_full = self.is_full
        self._held_bytes += size
        if was_full and not self.is_full:
            for connection in tuple(self._connections):
                asyncio.get_running_loop().call_soon(connection.proceed)

    @property
    def is_full(self) -> bool:
        """True while unanswered requests take all the memory they may."""
        return self._held_bytes >= self._settings.max_in_flight_bytes


def _log_end(sweeper: asyncio.Task[None]) -> None:
    if not sweeper.cancelled():
        logger.error("%s has ended", sweeper.get_name(), exc_info=sweeper.exception())
