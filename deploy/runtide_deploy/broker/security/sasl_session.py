"""One connection's way through SASL, as in Apache Kafka's SaslServerAuthenticator (KIP-43, KIP-152).

``START`` --SaslHandshake--> ``EXCHANGE`` --SaslAuthenticate, once or more--> ``AUTHENTICATED``; anything wrong ends in
``OVER``: the answer, if there is one, is sent and the connection closed.
"""

import asyncio
import logging
from collections.abc import Coroutine
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.security.scram import ClientFirst, ScramError, ScramExchange

if TYPE_CHECKING:
    from runtide_deploy.broker.security.authenticator import Authenticator

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
BEFORE_AUTHENTICATION: Final = frozenset({API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE})
"""What is served to a client that has not logged in."""
_PLAIN_PARTS: Final = 3
_LONGEST_NAME_IN_LOG: Final = 64
logger = logging.getLogger(__name__)


class _State(Enum):
    START = auto()
    EXCHANGE = auto()
    CHECKING = auto()
    AUTHENTICATED = auto()
    OVER = auto()


class _Failed(Exception):
    """Wrong credentials; the text is what clients are told."""

    def __init__(self, user: str, told: str, reason: str) -> None:
        super().__init__(told)
        self.user, self.told, self.reason = user, told, reason


class SaslSession:
    """Where one connection stands.

    Attributes:
        user: who logged in; empty before.
    """

    def __init__(self, authenticator: "Authenticator", peer: str) -> None:
        self.user = ""
        self._authenticator = authenticator
        self._peer = peer
        self._state = _State.START
        self._mechanism = ""
        self._exchange: ScramExchange | None = None
        self._claimed = ""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What the client may choose."""
        return self._authenticator.mechanisms

    @property
    def is_authenticated(self) -> bool:
        """True once the client has logged in."""
        return self._state is _State.AUTHENTICATED

    @property
    def is_over(self) -> bool:
        """True when the connection must be closed once its answers are sent."""
        return self._state is _State.OVER

    def admits(self, key: int) -> bool:
        """Return whether a request of that API may be handled now."""
        if self.is_authenticated:
            return True
        # SaslAuthenticate belongs to an exchange, and nothing may come while one is being checked.
        if key == SASL_AUTHENTICATE:
            return self._state is _State.EXCHANGE
        return key in BEFORE_AUTHENTICATION and self._state in (_State.START, _State.EXCHANGE)

    def begin(self, mechanism: str, version: int) -> tuple[str, ...]:
        """Choose the mechanism and return those that are served.

        Raises:
            Refused: in the middle of another exchange, by a client that would go on with raw tokens, or with a mechanism
                that is not served.
        """
        if self._state is not _State.START:
            if not self.is_authenticated:
                self._state = _State.OVER
            raise Refused(ErrorCode.illegal_sasl_state, "SaslHandshake comes first, and once")
        self._state = _State.OVER
        if version == 0:
            logger.warning(
                "closing connection from %s: it asks for raw SASL tokens (SaslHandshake version 0); "
                "use a client of Kafka 1.0 or later",
                self._peer,
            )
            raise Refused(ErrorCode.unsupported_version, "raw SASL tokens are not served")
        if mechanism not in self.mechanisms:
            logger.warning(
                "closing connection from %s: it asks for SASL mechanism %r, served are %s",
                *(self._peer, mechanism[:_LONGEST_NAME_IN_LOG], ", ".join(self.mechanisms)),
            )
            raise Refused(ErrorCode.unsupported_sasl_mechanism, "")
        self._state, self._mechanism = _State.EXCHANGE, mechanism
        return self.mechanisms

    def advance(self, token: bytes) -> Coroutine[Any, Any, bytes]:
        """Take the client's next message; the server's is to be awaited, and nothing else is admitted meanwhile.

        Raises:
            Refused: (when awaited) the credentials are wrong; some time later, so that trying many takes long.
            Overloaded: (when awaited) too many logins from the client's address wait to be checked.
        """
        self._state = _State.CHECKING
        return self._checked(token)

    async def _checked(self, token: bytes) -> bytes:
        try:
            answer = await self._plain(token) if self._mechanism == "PLAIN" else self._scram(token)
        except _Failed as failed:
            logger.warning(
                "closing connection from %s: authentication of user %r failed (%s: %s)",
                *(self._peer, failed.user[:_LONGEST_NAME_IN_LOG], self._mechanism, failed.reason),
            )
            await asyncio.sleep(self._authenticator.failure_delay)
            self._state = _State.OVER
            raise Refused(ErrorCode.sasl_authentication_failed, failed.told) from failed
        self._state = _State.AUTHENTICATED if self.user else _State.EXCHANGE
        return answer

    async def _plain(self, token: bytes) -> bytes:
        """RFC 4616: authorization NUL user NUL password."""
        told = "Authentication failed: Invalid username or password"
        parts = token.split(b"\0")
        try:
            authorization, user = parts[0].decode(), parts[1].decode()
        except (IndexError, UnicodeDecodeError) as error:
            raise _Failed("", told, "malformed message") from error
        if len(parts) != _PLAIN_PARTS or not user or not parts[2]:
            raise _Failed(user, told, "malformed message")
        if not await self._authenticator.password_fits(user, parts[2], self._peer.rpartition(":")[0]):
            raise _Failed(user, told, "wrong password or unknown user")
        self._admit(user, authorization)
        return b""

    def _scram(self, token: bytes) -> bytes:
        try:
            if self._exchange is None:
                first = ClientFirst.parse(token)
                self._claimed = first.user
                verifier = self._authenticator.verifier(first.user, self._mechanism)
                self._exchange = ScramExchange(self._mechanism, first, verifier)
                return self._exchange.challenge
            answer = self._exchange.finish(token)
            self._admit(self._claimed, self._exchange.authorization)
        except ScramError as error:
            told = f"Authentication failed during authentication due to invalid credentials with SASL mechanism {self._mechanism}"
            raise _Failed(self._claimed, told, str(error)) from error
        return answer

    def _admit(self, user: str, authorization: str) -> None:
        if authorization and authorization != user:
            told = "Authentication failed: Client requested an authorization id that is different from username"
            raise _Failed(user, told, "it asks for another authorization id")
        self.user = user
        logger.debug("%s logged in as %r", self._peer, user[:_LONGEST_NAME_IN_LOG])
