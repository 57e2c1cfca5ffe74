"""Where the gateway is and what opens it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from runtide.secret_file import read_secret
from runtide_schemas.errors import FatalError, InvalidRequest

if TYPE_CHECKING:
    import ssl

TOKEN = "RUNTIDE_GATEWAY_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE = "RUNTIDE_GATEWAY_TOKEN_FILE"  # noqa: S105 - the name of a variable
TLS_CA = "RUNTIDE_GATEWAY_TLS_CA"


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """A gateway's address and what it asks for.

    Attributes:
        url: base URL, without a slash at the end.
        token: shown as bearer token; empty for none.
        tls_ca: CA certificates (PEM) to trust; the system's when None.
    """

    url: str
    token: str = field(default="", repr=False)
    tls_ca: Path | None = None

    @classmethod
    def of(cls, url: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Return a gateway's address with the environment's token and certificates.

        The token is ``RUNTIDE_GATEWAY_TOKEN``, or in the file that ``RUNTIDE_GATEWAY_TOKEN_FILE`` names.

        Raises:
            InvalidRequest: the URL cannot be used.
            FatalError: the token's file cannot be used.
        """
        token = environment.get(TOKEN, "").strip()
        if not token and (file := environment.get(TOKEN_FILE)):
            token = read_secret(Path(file), TOKEN_FILE)
        if not (token.isascii() and token.isprintable()):
            raise FatalError(
                f"{TOKEN} or {TOKEN_FILE} holds no token: it has line breaks, or characters that are not ASCII"
            )
        ca = environment.get(TLS_CA)
        return cls(check_gateway_url(url), token, Path(ca) if ca else None)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that show the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def tls_context(self) -> "ssl.SSLContext | None":
        """Return how to speak TLS with it; None when its URL is plain HTTP.

        Raises:
            FatalError: the CA certificates cannot be used.
        """
        if not self.url.startswith("https:"):
            return None
        import ssl  # imported late: it costs 10 ms

        try:
            return ssl.create_default_context(cafile=None if self.tls_ca is None else str(self.tls_ca))
        except (OSError, ssl.SSLError) as error:
            raise FatalError(f"cannot use {TLS_CA} {self.tls_ca}: {error}") from error


def check_gateway_url(url: str) -> str:
    """Return a gateway's base URL without a slash at its end.

    Raises:
        InvalidRequest: it is no http or https URL with a host, or holds a password, which would end up in logs.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(f"{url!r} is no address of a gateway; wanted is http(s)://HOST[:PORT]")
    if parts.username or parts.password:
        raise InvalidRequest(f"a gateway's URL holds no password, which would end up in logs: set {TOKEN_FILE}")
    return url.rstrip("/")
