"""Where webhooks may go: hosts all of whose addresses are public. Each address is checked, and the checked one is used.

A name can point elsewhere a moment later (DNS rebinding), so who sends resolves once and connects to what was checked.
"""

import asyncio
import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from runtide_schemas.errors import InvalidRequest, TransientError

RESOLVE_S = 5.0
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def check_destination(url: str, allow_private: bool) -> list[str]:
    """Return the addresses of a webhook's host, all of them checked.

    Raises:
        InvalidRequest: the URL is not one that webhooks may go to.
        TransientError: the name cannot be resolved.
    """
    parts = parse_url(url, allow_private)
    host = str(parts.hostname)
    addresses = await _resolved(host, port_of(parts))
    if not allow_private and (inside := [one for one in addresses if not is_public(one)]):
        raise InvalidRequest(
            f"Webhook URL must not resolve to a non-public IP address. {host!r} resolves to {inside[0]}."
        )
    return addresses


def parse_url(url: str, allow_private: bool) -> SplitResult:
    """Return a webhook's URL, taken apart.

    Raises:
        InvalidRequest: it is none, has credentials, or is not https where that is asked for.
    """
    if not url.strip():
        raise InvalidRequest(f"Webhook URL cannot be empty or just whitespace: {url!r}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest(f"Invalid webhook URL {url!r}: {error!r}") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes:
        raise InvalidRequest(
            f"Invalid webhook URL scheme: {parts.scheme!r}. Allowed schemes are: {', '.join(schemes)}."
        )
    if not host:
        raise InvalidRequest(f"Webhook URL must include a hostname: {url!r}")
    if (
        parts.username is not None
        or parts.password is not None
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise InvalidRequest("Webhook URL must be printable ASCII and hold no credentials")
    return parts


def port_of(parts: SplitResult) -> int:
    """Return the port that a URL means."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_public(address: str) -> bool:
    """Say whether an address is one of the public internet; what IPv6 wraps (mapped, 6to4, NAT64) counts as itself."""
    try:
        found: _Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        wrapped = found.ipv4_mapped or found.sixtofour
        if wrapped is None and found in _NAT64:
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        found = wrapped or found
    return found.is_global and not found.is_multicast


async def _resolved(host: str, port: int) -> list[str]:
    """Return the addresses that a name has, or the one that it is."""
    if ":" in host or host.replace(".", "").isdigit():  # 127.1 and 0177.0.0.1 are addresses to some, and not to others
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError as error:
            raise InvalidRequest(f"Webhook URL host {host!r} is not a canonical IP address literal.") from error
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise TransientError(f"Cannot resolve Webhook URL hostname {host!r}: {error!r}") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))
