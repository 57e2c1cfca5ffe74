"""The file of users: verifiers of their passwords, from which nobody can log in, and no passwords.

JSON: ``{"format": 1, "decoy_key": BASE64, "users": {NAME: {MECHANISM: {"iterations", "salt", "stored_key",
"server_key"}}}}``, binary values as base64. ``decoy_key`` makes up what is said about users that do not exist. The file
must not be readable by others: whoever has a verifier can try passwords offline, and can play the broker.
"""

import base64
import json
import secrets
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from runtide_deploy.broker.durable_file import replace_file
from runtide_deploy.broker.security.scram import HASHES, LEAST_ITERATIONS, Verifier, decoy_verifier, make_verifier

FORMAT: Final = 1
ITERATIONS: Final = 16_384
"""The most that Apache Kafka's own tools allow; a guess then costs milliseconds."""
MOST_ITERATIONS: Final = 1_000_000
LONGEST_NAME_BYTES: Final = 255
LARGEST_FILE_BYTES: Final = 64 << 20
_FIELDS: Final = ("salt", "stored_key", "server_key")


class BadCredentials(Exception):
    """The file of users, or what should be written to it, is not usable; the message says what to do."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """The users of one file.

    Attributes:
        decoy_key: makes up what is said about users that do not exist.
        users: name to mechanism to verifier.
        usual_iterations: what most verifiers have; of two numbers that are as common the larger one.
    """

    decoy_key: bytes
    users: Mapping[str, Mapping[str, Verifier]]
    usual_iterations: int = field(init=False)

    def __post_init__(self) -> None:
        """Count once, not at every login."""
        times = Counter(one.iterations for verifiers in self.users.values() for one in verifiers.values())
        usual = max(times, key=lambda number: (times[number], number), default=ITERATIONS)
        object.__setattr__(self, "usual_iterations", usual)

    @classmethod
    def new(cls) -> Self:
        """Return no users."""
        return cls(secrets.token_bytes(32), {})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            BadCredentials: it cannot be read, is damaged, or others may read it.
        """
        try:
            found = path.stat()
            if stat.S_IMODE(found.st_mode) & (stat.S_IRWXO | stat.S_IWGRP):
                raise BadCredentials(f"others may use {path} (mode {found.st_mode & 0o777:04o}); run: chmod 600 {path}")
            if found.st_size > LARGEST_FILE_BYTES:
                raise BadCredentials(f"{path} has {found.st_size} bytes, which is too much for a file of users")
            return cls._parsed(json.loads(path.read_bytes()))
        except FileNotFoundError as error:
            raise BadCredentials(
                f"{path} does not exist; make it: python -m runtide_deploy.broker.credentials --file {path} add USER"
            ) from error
        except OSError as error:
            raise BadCredentials(f"cannot read {path}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadCredentials(
                f"{path} is damaged ({type(error).__name__}: {error}); restore it, or make it anew"
            ) from error

    @classmethod
    def _parsed(cls, content: Any) -> Self:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is not {FORMAT}")
        users = {
            name: {mechanism: _verifier(mechanism, fields) for mechanism, fields in verifiers.items()}
            for name, verifiers in content["users"].items()
        }
        return cls(base64.b64decode(content["decoy_key"], validate=True), users)

    def write(self, path: Path) -> None:
        """Write the file for its owner alone; readers see the old or the new one."""
        content = {
            "format": FORMAT,
            "decoy_key": base64.b64encode(self.decoy_key).decode(),
            "users": {
                name: {mechanism: _fields(verifier) for mechanism, verifier in verifiers.items()}
                for name, verifiers in sorted(self.users.items())
            },
        }
        replace_file(path, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")

    def with_user(self, name: str, password: bytes, iterations: int = ITERATIONS) -> Self:
        """Return these and one more user, or with a new password for one that is there.

        Raises:
            BadCredentials: the name, the password or the number of iterations cannot be used.
        """
        if not name or "\0" in name or len(name.encode()) > LONGEST_NAME_BYTES:
            raise BadCredentials(f"the user name {name!r} must have 1 to {LONGEST_NAME_BYTES} bytes and no NUL")
        if not password or b"\0" in password:
            raise BadCredentials("the password must not be empty or hold a NUL")
        if not LEAST_ITERATIONS <= iterations <= MOST_ITERATIONS:
            raise BadCredentials(f"{iterations} iterations: give {LEAST_ITERATIONS} to {MOST_ITERATIONS}")
        made = {mechanism: make_verifier(mechanism, password, iterations) for mechanism in HASHES}
        return replace(self, users={**self.users, name: made})

    def without_user(self, name: str) -> Self:
        """Return these without a user.

        Raises:
            BadCredentials: there is no such user.
        """
        if name not in self.users:
            raise BadCredentials(f"there is no user {name!r}; there are: {', '.join(sorted(self.users)) or 'none'}")
        return replace(self, users={user: kept for user, kept in self.users.items() if user != name})

    def verifier(self, user: str, mechanism: str) -> Verifier:
        """Return what the user's password is checked against; for an unknown user, something that nothing fits.

        Its iterations, which clients are told, are those that most users have: who has another number than most can be
        told from users that do not exist.
        """
        known = self.users.get(user, {}).get(mechanism)
        return decoy_verifier(mechanism, user, self.decoy_key, self.usual_iterations) if known is None else known


def _verifier(mechanism: str, fields: Mapping[str, Any]) -> Verifier:
    if mechanism not in HASHES:
        raise ValueError(f"unknown mechanism {mechanism!r}")
    iterations = fields["iterations"]
    if not isinstance(iterations, int) or not LEAST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise ValueError(f"{iterations!r} iterations")
    return Verifier(iterations, *(base64.b64decode(fields[name], validate=True) for name in _FIELDS))


def _fields(verifier: Verifier) -> dict[str, int | str]:
    binary = {name: base64.b64encode(getattr(verifier, name)).decode() for name in _FIELDS}
    return {"iterations": verifier.iterations, **binary}
