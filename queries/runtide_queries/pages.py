"""Page tokens: where the next page starts, as opaque text that clients hand back unread."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from runtide_schemas.errors import InvalidRequest

MAX_PAGE_SIZE = 1_000
_MAX_TOKEN_LENGTH = 16_384


def check_page_size(size: int, most: int = MAX_PAGE_SIZE) -> int:
    """Return ``size`` when a page may have so many rows."""
    if not 1 <= size <= most:
        raise InvalidRequest(f"A page has 1 to {most} rows, got {size}; follow next_page_token for more")
    return size


def encode_token(scope: str, values: Sequence[Any]) -> str:
    """Return the token of a place in the list that ``scope`` names."""
    return base64.urlsafe_b64encode(json.dumps([scope, *values], ensure_ascii=False).encode()).decode().rstrip("=")


def decode_token(scope: str, token: str, types: Sequence[type | tuple[type, ...]]) -> list[Any]:
    """Return the values of a token made for ``scope``, each checked against its type.

    Raises:
        InvalidRequest: it is no token, or one of another list.
    """
    try:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise ValueError("too long")
        found = json.loads(base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise InvalidRequest(
            "Invalid page token, could not base64-decode it; use next_page_token as it came"
        ) from error
    if not isinstance(found, list) or len(found) != len(types) + 1 or found[0] != scope:
        raise InvalidRequest("Invalid page token: it belongs to another query; start again without it")
    values: list[Any] = found[1:]
    if any(isinstance(value, bool) or not isinstance(value, kind) for value, kind in zip(values, types, strict=True)):
        raise InvalidRequest("Invalid page token: its values are not of this query; start again without it")
    return values
