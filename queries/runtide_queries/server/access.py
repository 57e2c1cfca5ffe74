"""Who calls: the token that a request shows, what it opens, and whether a caller without one is let in."""

import base64
import binascii
import hashlib
import hmac
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from fastapi import Request

from runtide_queries.api_tokens import ApiToken, ApiTokens, Scope, read_tokens, token_id
from runtide_queries.server.measures import Measures
from runtide_queries.server.settings import GatewaySettings
from runtide_schemas.errors import FatalError

_log = logging.getLogger(__name__)
_LONGEST_USER = 250


class Refusal(StrEnum):
    """Why a caller was not let in; what ``/metrics`` counts."""

    NONE = "none"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SCOPE = "scope"


class Unauthenticated(Exception):
    """The caller has to show a token that is valid. The text says what was wrong with the one shown."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(Exception):
    """The caller's token is valid and does not open the route; the text says what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls.

    Attributes:
        scope: what is open to them.
        name: of their token; empty when it has none, or none was shown.
        user: whom they say they are, by basic auth; nobody checks it.
    """

    scope: Scope
    name: str = ""
    user: str = ""


class Access:
    """Tells who calls. The tokens' file is read again when it has changed: what is revoked is closed at once.

    Raises when made:
        FatalError: the tokens' file cannot be used.
    """

    def __init__(self, settings: GatewaySettings, measures: Measures) -> None:
        self._settings = settings
        self._measures = measures
        self._file = _TokensFile(settings.tokens_file, measures) if settings.tokens_file is not None else None

    def caller(self, request: Request) -> Caller:
        """Return who calls.

        Raises:
            Unauthenticated: no token is shown where one is needed, or one that is not valid.
        """
        token, user = shown_by(request)
        if caller := self._static(token, user):
            return caller
        if self._file is not None and (known := self._file.tokens().known(token)) is not None:
            return self._of(known, user)
        if self._settings.is_open and (self._file is None or token_id(token) is None):
            return Caller(scope=Scope.OPERATE, user=user)
        if not token:
            raise self._refused(
                Refusal.NONE,
                "This gateway wants a token: send it as bearer token, or as the password of basic auth",
            )
        raise self._refused(
            Refusal.UNKNOWN,
            "This gateway does not know that token: send one that it does as bearer token, or as the password of basic auth",
        )

    def refuse_scope(self, caller: Caller, needed: str) -> Forbidden:
        """Count and return the refusal of a caller whose token does not open a route."""
        self._measures.refused(Refusal.SCOPE)
        whose = f"The token {caller.name!r}" if caller.name else "This token"
        return Forbidden(f"{whose} has the scope {caller.scope.value}; this needs {needed}")

    def signing_key(self) -> bytes:
        """Return what URLs are signed with: a secret of all gateways that know the same tokens."""
        rows = self._file.tokens().tokens if self._file is not None else ()
        known = [self._settings.token_sha256, self._settings.log_token_sha256, *sorted(row.sha256 for row in rows)]
        return hashlib.sha256("\0".join(["signed urls", *known]).encode()).digest()

    def refuse_signature(self) -> Unauthenticated:
        """Count and return the refusal of a URL that was not signed here, or has expired."""
        return self._refused(
            Refusal.UNKNOWN, "This URL was not signed by this gateway, or has expired: ask for another"
        )

    def _static(self, token: str, user: str) -> Caller | None:
        """Compare with all, always, so that the time tells nothing."""
        shown = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        given = ((self._settings.token_sha256, Scope.OPERATE), (self._settings.log_token_sha256, Scope.LOG))
        opened = [scope for digest, scope in given if digest and hmac.compare_digest(shown, digest)]
        return Caller(scope=opened[0], user=user) if opened else None

    def _of(self, known: ApiToken, user: str) -> Caller:
        match known.state(datetime.now(UTC)):
            case "revoked":
                raise self._refused(
                    Refusal.REVOKED, f"The token {known.name!r} ({known.id}) was revoked; ask for another"
                )
            case "expired":
                raise self._refused(
                    Refusal.EXPIRED,
                    f"The token {known.name!r} ({known.id}) expired at {known.expires:%Y-%m-%d %H:%M} UTC; make another with "
                    "`runtide token create`",
                )
        return Caller(scope=known.scope, name=known.name, user=user)

    def _refused(self, reason: Refusal, message: str) -> Unauthenticated:
        self._measures.refused(reason)
        return Unauthenticated(reason, message)


class _TokensFile:
    """The tokens' file as it was last read whole. One that is damaged or gone changes nothing: the last good one counts."""

    def __init__(self, path: Path, measures: Measures) -> None:
        self._path, self._measures = path, measures
        self._seen = self._mark()
        self._tokens = read_tokens(path)
        measures.tokens_readable(True)

    def tokens(self) -> ApiTokens:
        mark = self._mark()
        if mark != self._seen:
            self._seen = mark
            try:
                self._tokens = read_tokens(self._path)
            except FatalError as error:
                _log.error("%s. The %d tokens read before go on to count", error, len(self._tokens.tokens))
                self._measures.tokens_readable(False)
            else:
                _log.info("read %s: %d tokens", self._path, len(self._tokens.tokens))
                self._measures.tokens_readable(True)
        return self._tokens

    def _mark(self) -> tuple[int, ...]:
        """Return what is another as soon as the file is."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode


def shown_by(request: Request) -> tuple[str, str]:
    """Return the token that a request shows and the user that it names, by bearer or basic auth; empty where it does not."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip(), ""
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            return "", ""
        user, _, password = decoded.partition(":")
        return password, user if user.isprintable() and len(user) <= _LONGEST_USER else ""
    return "", ""
