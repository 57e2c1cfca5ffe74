"""API tokens: what one looks like, and the file that says which there are.

A token is ``rt_<id>_<secret><checksum>``: scanners for leaked secrets know it by its shape, and by the CRC-32 at its end from
chance. The file has the SHA-256 of each, never a token: whoever reads the file can call nobody.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtide_schemas.errors import FatalError, InvalidRequest

DEFAULT_DAYS = 90
LONGEST_NAME = 100
MOST_FILE_BYTES = 4 * 1024 * 1024
_TOKEN = re.compile(r"rt_([0-9a-f]{12})_[0-9a-f]{64}([0-9a-f]{8})\Z")
_OTHERS = 0o077
_NO_DIGEST = "0" * 64


class Scope(StrEnum):
    """What a token opens."""

    READ = "read"
    """Everything that is only read."""
    LOG = "log"
    """What a training job does: bring what it states, store and read artifacts."""
    OPERATE = "operate"
    """Everything."""


class ApiToken(BaseModel):
    """What is kept of a token.

    Attributes:
        id: the part of it that may be known.
        name: whose it is, or what for; the actor of what is done with it.
        sha256: of the whole token, hexadecimal.
        expires: until when it is valid; None for ever.
        revoked: since when it is not; None: it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=LONGEST_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scope: Scope
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Say what it is good for."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"


class ApiTokens(BaseModel):
    """Every token that was made, the revoked ones too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    tokens: tuple[ApiToken, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({token.id for token in self.tokens}) != len(self.tokens):
            raise ValueError("two tokens have one id")
        return self

    def known(self, shown: str) -> ApiToken | None:
        """Return what is known of a token that somebody shows, None when it is not one of these.

        The id finds it, which is no secret; the rest is compared in constant time.
        """
        found = token_id(shown)
        row = next((token for token in self.tokens if token.id == found), None)
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).hexdigest()
        return row if hmac.compare_digest(digest, row.sha256 if row else _NO_DIGEST) else None

    def with_new(
        self, name: str, scope: Scope, *, now: datetime, days: float | None = DEFAULT_DAYS
    ) -> "tuple[ApiTokens, ApiToken, str]":
        """Return these with a new token, what is kept of it, and the token itself, which is told this once.

        Parameters:
            days: for how long it is valid; None: for ever.

        Raises:
            InvalidRequest: the name cannot be one, or a valid token has it.
        """
        if any(token.name == name and token.state(now) == "valid" for token in self.tokens):
            raise InvalidRequest(f"A valid token is named {name!r}: revoke it first, or choose another name")
        identity = secrets.token_hex(6)
        body = f"rt_{identity}_{secrets.token_hex(32)}"
        token = f"{body}{zlib.crc32(body.encode()):08x}"
        try:
            kept = ApiToken(
                id=identity,
                name=name,
                sha256=hashlib.sha256(token.encode()).hexdigest(),
                scope=scope,
                created=now,
                expires=None if days is None else now + timedelta(days=days),
            )
            return ApiTokens(tokens=(*self.tokens, kept)), kept, token
        except (ValidationError, OverflowError) as error:
            raise InvalidRequest(
                f"a token needs a name of 1 to {LONGEST_NAME} characters on one line, and a time that exists: {name!r} for "
                f"{days} days does not do"
            ) from error

    def with_revoked(self, which: str, *, now: datetime) -> "tuple[ApiTokens, ApiToken]":
        """Return these with one revoked, named by its id or the name of one that is not revoked.

        Raises:
            InvalidRequest: there is none, or more than one.
        """
        found = [token for token in self.tokens if which == token.id or (which == token.name and not token.revoked)]
        if len(found) != 1:
            fault = f"{len(found)} tokens are named {which!r}; name one by its id" if found else f"no token {which!r}"
            raise InvalidRequest(f"{fault}; `runtide token ls` lists them")
        revoked = found[0].model_copy(update={"revoked": found[0].revoked or now})
        kept = (revoked if token.id == revoked.id else token for token in self.tokens)
        return ApiTokens(tokens=tuple(kept)), revoked


def token_id(shown: str) -> str | None:
    """Return the id of what has a token's shape and checksum, None of all else."""
    match = _TOKEN.match(shown)
    if match is None or f"{zlib.crc32(shown[:-8].encode()):08x}" != match[2]:
        return None
    return match[1]


def read_tokens(path: Path) -> ApiTokens:
    """Return what a file of tokens says.

    Raises:
        FatalError: it is not there, not a file of tokens, or open to others than its owner.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_private(path, os.fstat(descriptor))
            text = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise FatalError(
            f"cannot read the tokens in {path}: {error.strerror or error}. `runtide token create` makes the file"
        ) from error
    if len(text) > MOST_FILE_BYTES:
        raise FatalError(f"{path} has more than {MOST_FILE_BYTES} bytes, which is no file of tokens")
    try:
        return ApiTokens.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise FatalError(
            f"{path} is damaged ({place}: {first['msg']}): no token in it is known. Restore it from a copy, or delete it and "
            "make new tokens with `runtide token create`"
        ) from error


def write_tokens(path: Path, tokens: ApiTokens) -> None:
    """Replace a file of tokens (0600) as a whole: readers see the old or the new one.

    Raises:
        FatalError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(tokens.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise FatalError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def changing(path: Path) -> Iterator[ApiTokens]:
    """Hold a file of tokens for a change, so that of two that are made at once none is lost; one that is not there has none.

    Raises:
        FatalError: it cannot be used.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FatalError(f"cannot write beside {path}: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield read_tokens(path) if path.exists() else ApiTokens()
    finally:
        os.close(descriptor)


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FatalError(f"{path} is no regular file; it must be one of tokens, as `runtide token create` makes it")
    if found.st_mode & _OTHERS:
        raise FatalError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): run `chmod 600 {path}`, and make new "
            "tokens if others may have written it"
        )
