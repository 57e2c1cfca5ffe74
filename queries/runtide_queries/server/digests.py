"""The ``Content-Digest`` of a request (RFC 9530): what its sender says the body's SHA-256 is."""

import base64
import binascii
import re

from runtide_schemas.errors import InvalidRequest

_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):\s*(?=,|;|$)")


def announced_sha256(header: str) -> str | None:
    """Return the SHA-256 that a header announces, hexadecimal; None when it announces none. Other algorithms are ignored.

    Raises:
        InvalidRequest: it is no SHA-256.
    """
    found = _SHA256.search(header)
    if found is None:
        if "sha-256" in header:
            raise InvalidRequest(f"Content-Digest {header[:200]!r} must be sha-256=:BASE64:")
        return None
    try:
        digest = base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"Content-Digest {header[:200]!r} is not base64") from error
    if len(digest) != 32:
        raise InvalidRequest(f"Content-Digest {header[:200]!r} has {len(digest)} bytes; a SHA-256 has 32")
    return digest.hex()
