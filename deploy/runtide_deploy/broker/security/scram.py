"""The server's side of SCRAM (RFC 5802, with SHA-256 of RFC 7677 and SHA-512), without channel binding.

Passwords are taken as the bytes that they are, without SASLprep, as Apache Kafka, librdkafka and aiokafka do.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""Hash function of each mechanism, by hashlib's name."""
LEAST_ITERATIONS: Final = 4096
"""What RFC 7677 demands, and what clients insist on."""
_NONCE_BYTES: Final = 24
_VALUE: Final = r"[^,\x00]+"
_CLIENT_FIRST: Final = re.compile(
    rf"(?P<header>[ny],(?:a=(?P<authorization>{_VALUE}))?,)"
    rf"(?P<bare>n=(?P<user>{_VALUE}),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]+={_VALUE})*)"
)
_CLIENT_FINAL: Final = re.compile(
    rf"(?P<unproven>c=(?P<binding>[A-Za-z0-9/+=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]+={_VALUE})*)"
    r",p=(?P<proof>[A-Za-z0-9/+=]+)"
)
_USER_ESCAPE: Final = re.compile(r"=(2C|3D)?")


class ScramError(Exception):
    """The client's message is malformed, or its proof is wrong. For the log: clients are not told which."""


@dataclass(frozen=True, slots=True, repr=False)
class Verifier:
    """What a server keeps of a password for one mechanism (RFC 5802, section 3). It does not reveal the password."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """A client's first message.

    Attributes:
        header: the GS2 header, which the final message must repeat.
        bare: the rest, which is signed.
        user: who wants in.
        authorization: whom that user wants to act as; empty for itself.
        nonce: the client's random part.
    """

    header: str
    bare: str
    user: str
    authorization: str
    nonce: str

    @classmethod
    def parse(cls, message: bytes) -> "ClientFirst":
        """Read the message.

        Raises:
            ScramError: it is malformed, or asks for channel binding or for an extension that must be understood.
        """
        found = _CLIENT_FIRST.fullmatch(_text(message))
        if found is None:
            raise ScramError("malformed first message")
        authorization = found["authorization"]
        return cls(
            header=found["header"],
            bare=found["bare"],
            user=_unescaped(found["user"]),
            authorization="" if authorization is None else _unescaped(authorization),
            nonce=found["nonce"],
        )


class ScramExchange:
    """One exchange, from the client's first message on: ``challenge`` is the answer to it, ``finish`` ends it."""

    def __init__(self, mechanism: str, first: ClientFirst, verifier: Verifier, nonce: str = "") -> None:
        """``nonce``: the server's random part; a new one when empty."""
        self._hash = HASHES[mechanism]
        self._first = first
        self._verifier = verifier
        self._nonce = first.nonce + (nonce or secrets.token_urlsafe(_NONCE_BYTES))
        salt = base64.b64encode(verifier.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={verifier.iterations}"

    @property
    def authorization(self) -> str:
        """Whom the client wants to act as; empty for itself."""
        return self._first.authorization

    @property
    def challenge(self) -> bytes:
        """The server's first message."""
        return self._server_first.encode()

    def finish(self, message: bytes) -> bytes:
        """Check the client's final message and return the server's.

        Raises:
            ScramError: it is malformed, belongs to another exchange, or proves no knowledge of the password.
        """
        found = _CLIENT_FINAL.fullmatch(_text(message))
        if found is None:
            raise ScramError("malformed final message")
        if _decoded(found["binding"]) != self._first.header.encode():
            raise ScramError("the final message has another GS2 header than the first")
        if found["nonce"] != self._nonce:
            raise ScramError("the final message has another nonce")
        signed = f"{self._first.bare},{self._server_first},{found['unproven']}".encode()
        self._check_proof(_decoded(found["proof"]), signed)
        signature = hmac.digest(self._verifier.server_key, signed, self._hash)
        return b"v=" + base64.b64encode(signature)

    def _check_proof(self, proof: bytes, signed: bytes) -> None:
        signature = hmac.digest(self._verifier.stored_key, signed, self._hash)
        if len(proof) != len(signature):
            raise ScramError("the proof has a wrong length")
        client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.new(self._hash, client_key).digest(), self._verifier.stored_key):
            raise ScramError("wrong password or unknown user")


def make_verifier(mechanism: str, password: bytes, iterations: int, salt: bytes = b"") -> Verifier:
    """Return what to keep of a password. ``salt``: a new one when empty."""
    name = HASHES[mechanism]
    salt = salt or secrets.token_bytes(hashlib.new(name).digest_size)
    salted = hashlib.pbkdf2_hmac(name, password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", name)
    return Verifier(
        iterations=iterations,
        salt=salt,
        stored_key=hashlib.new(name, client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", name),
    )


def decoy_verifier(mechanism: str, user: str, key: bytes, iterations: int) -> Verifier:
    """Return a verifier for a user that does not exist: the same at each try, and no password fits it.

    A client that asks for unknown users then sees what it sees for known ones (RFC 5802, section 5.1).
    """
    name = HASHES[mechanism]
    parts = [hmac.digest(key, f"{part} {mechanism} {user}".encode(), name) for part in ("salt", "stored", "server")]
    return Verifier(iterations, *parts)


def password_fits(mechanism: str, verifier: Verifier, password: bytes) -> bool:
    """Return whether a password is the verifier's. Takes milliseconds on purpose, whatever the answer."""
    made = make_verifier(mechanism, password, verifier.iterations, verifier.salt)
    return hmac.compare_digest(made.stored_key, verifier.stored_key)


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise ScramError("a message is not UTF-8") from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ScramError("a message holds invalid base64") from error


def _unescaped(name: str) -> str:
    """Undo ``=2C`` for a comma and ``=3D`` for an equals sign; no other equals sign may be in a name."""

    def plain(found: re.Match[str]) -> str:
        if found[1] is None:
            raise ScramError("a name holds an equals sign that is not escaped")
        return "," if found[1] == "2C" else "="

    return _USER_ESCAPE.sub(plain, name)
