"""Identifiers that are the same wherever and however often the same thing is imported.

They are SHA-256 hashes cut to the length of the ids that the SDK draws at random.
"""

import hashlib
import json
import uuid
from typing import Any

WRITING_FORMAT = 1
"""How points are cut into events. Raise it when that changes: same writer, same number, has to mean same event."""

IMPORTED = "imported"
"""``reason`` of an importer's WriterClosed."""


def derived_id(*parts: str) -> str:
    """Return 32 hexadecimal characters: an id for what these texts name together."""
    return digest_of(parts)[:32]


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def event_id(writer_id: str, topic: str, seq: int, time: int) -> str:
    """Return the id of an event: a version 7 UUID whose 74 random bits are a hash."""
    hashed = int.from_bytes(hashlib.sha256(f"{writer_id}\0{topic}\0{seq}".encode()).digest()[:10], "big")
    milliseconds = max(0, time) & (1 << 48) - 1
    bits = milliseconds << 80 | 0x7 << 76 | (hashed >> 68) << 64 | 0b10 << 62 | hashed & (1 << 62) - 1
    return str(uuid.UUID(int=bits))
