"""Who may in: the users of the file, and the checks that take time, which one thread does beside the event loop."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtide_deploy.broker.errors import CannotStart
from runtide_deploy.broker.listener_settings import ListenerSettings
from runtide_deploy.broker.security.credential_file import BadCredentials, Credentials
from runtide_deploy.broker.security.sasl_session import SaslSession
from runtide_deploy.broker.security.scram import Verifier, password_fits
from runtide_deploy.broker.security.turns import Turns

logger = logging.getLogger(__name__)
_PLAIN_VERIFIER = "SCRAM-SHA-512"
_MOST_CHECKS_WAITING = 64
"""Of one address: what takes about a second."""
_Stamp = tuple[int, int, int]


class Authenticator:
    """Knows the users and makes a session for each connection.

    Attributes:
        mechanisms: what clients may choose.
        failure_delay: seconds before wrong credentials are answered.
    """

    def __init__(self, settings: ListenerSettings, path: Path) -> None:
        """Read the file of users.

        Raises:
            CannotStart: it is not usable.
        """
        self.mechanisms = settings.mechanisms
        self.failure_delay = settings.failed_authentication_delay_ms / 1000
        self._path = path
        # One thread: whoever tries passwords gets one at a time, and never the threads that sync the log.
        self._turns = Turns(_MOST_CHECKS_WAITING)
        self._checks = ThreadPoolExecutor(1, thread_name_prefix="password-check")
        try:
            self._stamp = _stamp(path)
            self._credentials = Credentials.read(path)
        except BadCredentials as error:
            raise CannotStart(f"no usable credentials: {error}") from error
        if not self._credentials.users:
            logger.warning("%s has no users: nobody can log in", path)

    def session(self, peer: str) -> SaslSession:
        """Return the session of a new connection."""
        return SaslSession(self, peer)

    def verifier(self, user: str, mechanism: str) -> Verifier:
        """Return what a user's proof is checked against, as the file says now."""
        self._refresh()
        return self._credentials.verifier(user, mechanism)

    async def password_fits(self, user: str, password: bytes, address: str) -> bool:
        """Return whether the user has this password; ``address``, where the client is, takes turns with others.

        Raises:
            Overloaded: too many of that address wait already.
        """
        async with self._turns.turn(address):
            verifier = self.verifier(user, _PLAIN_VERIFIER)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._checks, password_fits, _PLAIN_VERIFIER, verifier, password)

    def close(self) -> None:
        """End the thread."""
        self._checks.shutdown(wait=False, cancel_futures=True)

    def _refresh(self) -> None:
        """Read the file again when it is another one; keep what we have when it is not usable, and say so once."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._credentials = Credentials.read(self._path)
        except BadCredentials as error:
            logger.error("the users stay as they were: %s", error)
            return
        logger.info("read %d users from %s", len(self._credentials.users), self._path)


def _stamp(path: Path) -> _Stamp | None:
    """Return what changes when the file does; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
