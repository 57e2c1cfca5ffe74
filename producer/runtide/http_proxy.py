"""The HTTP proxy that the environment names, if any: where compute nodes reach nothing else."""

import base64
import ipaddress
from urllib import request
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

from runtide.http_exchange import Endpoint, Proxy
from runtide_schemas.errors import FatalError

_DEFAULT_PORT = 3128


def proxy_before(endpoint: Endpoint) -> Proxy | None:
    """Return the proxy to reach a server through, by ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

    Loopback is always reached directly.

    Raises:
        FatalError: the proxy's URL cannot be used.
    """
    proxies = getproxies_environment()
    scheme = "https" if endpoint.secure else "http"
    url = proxies.get(scheme) or proxies.get("all")
    if not url or _is_loopback(endpoint.host):
        return None
    bypassed = request.proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it; `proxy_bypass` differs by system
    if bypassed(f"{endpoint.host}:{endpoint.port}", proxies):
        return None
    return _parsed(url if "://" in url else f"http://{url}", f"{scheme.upper()}_PROXY or ALL_PROXY")


def _parsed(url: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise FatalError(f"{variable} holds no URL of a proxy: {error}") from error
    if parts.scheme != "http" or not parts.hostname:
        raise FatalError(f"{variable} names a proxy that is not http://HOST:PORT; other kinds are not supported")
    if parts.username is None:
        return Proxy(parts.hostname, port)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(parts.hostname, port, f"Basic {base64.b64encode(credentials.encode()).decode()}")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
