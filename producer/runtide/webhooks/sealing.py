"""Secrets of webhooks at rest: the log and the stores hold them encrypted (Fernet), the key is a file of the stack."""

import base64
import hashlib
from pathlib import Path
from typing import Self

from runtide.secret_file import read_secret
from runtide_schemas.errors import FatalError, InvalidRequest


class Seal:
    """Encrypts and decrypts with one key."""

    def __init__(self, secret: str) -> None:
        """``secret`` may be any text; the key is derived from it."""
        from cryptography.fernet import Fernet  # costs time to import, and comes with the extra `server` only

        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()))

    @classmethod
    def of(cls, file: Path | None) -> Self:
        """Return the seal of a key file.

        Raises:
            InvalidRequest: there is no such file.
        """
        if file is None:
            raise InvalidRequest(
                "webhooks cannot have a secret here: there is no key to encrypt it with. Set RUNTIDE_WEBHOOK_KEY_FILE, for the "
                "gateway and for what delivers"
            )
        return cls(read_secret(file, "RUNTIDE_WEBHOOK_KEY_FILE"))

    def close(self, secret: str) -> str:
        """Return a secret encrypted; an empty one stays empty."""
        return self._fernet.encrypt(secret.encode()).decode() if secret else ""

    def open(self, token: str) -> str:
        """Return an encrypted secret as it was.

        Raises:
            FatalError: it was encrypted with another key, or is damaged.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token.encode()).decode() if token else ""
        except InvalidToken as error:
            raise FatalError(
                "a webhook's secret cannot be decrypted: it was encrypted with another key. Give RUNTIDE_WEBHOOK_KEY_FILE the "
                "key that the gateway had, or set the webhook's secret again"
            ) from error
