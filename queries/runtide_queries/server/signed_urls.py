"""URLs of this gateway that open one thing for a while, without a token: for clients that follow a URL and know no more.

The signature is over method, path and time of expiry, with a key that every gateway has that was given the same tokens. Where no
token is set, everything is open, and so are these.
"""

import hashlib
import hmac
import time
from urllib.parse import quote

from fastapi import Request

from runtide_queries.server.settings import GatewaySettings


def signed_url(request: Request, method: str, path: str, seconds: int) -> str:
    """Return a URL for one method on a path, as whoever sent ``request`` reaches this gateway, good for some seconds."""
    expires = int(time.time()) + seconds
    signature = _signature(request.app.state.settings, method, path, expires)
    return f"{str(request.base_url).rstrip('/')}{quote(path)}?expires={expires}&signature={signature}"


def is_signed(request: Request) -> bool:
    """Say whether a request came by a URL that was signed for it and has not expired."""
    expires = request.query_params.get("expires", "")
    if not expires.isascii() or not expires.isdecimal() or len(expires) > 12 or int(expires) < time.time():
        return False
    wanted = _signature(request.app.state.settings, request.method, request.scope["path"], int(expires))
    return hmac.compare_digest(wanted.encode(), request.query_params.get("signature", "").encode())


def _signature(settings: GatewaySettings, method: str, path: str, expires: int) -> str:
    key = hashlib.sha256(f"signed urls\0{settings.token_sha256}\0{settings.log_token_sha256}".encode()).digest()
    return hmac.new(key, f"{method}\0{path}\0{expires}".encode(), hashlib.sha256).hexdigest()
