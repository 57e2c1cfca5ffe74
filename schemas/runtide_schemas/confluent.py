"""The Confluent wire format: a zero byte, the schema's id in a registry (4 bytes, big-endian), then the Avro binary.

The body is the same as in single-object encoding; only the header differs. For Avro no message indexes follow the id.
(Confluent documentation, "Wire format"; Karapace and Apicurio Registry read and write the same.)
"""

from collections.abc import Callable
from typing import NoReturn

from runtide_schemas.errors import FatalError, TransientError
from runtide_schemas.resolution import Decoder

MAGIC = b"\x00"
HEADER_SIZE = len(MAGIC) + 4

DecoderById = Callable[[int], Decoder]
"""Schema id to decoder. Raises UnknownSchema for an id that is of no schema of ours."""


class SchemaPending(TransientError):
    """A registry lacks a schema id that it may have soon: it follows another one, or is being restored."""


class NoRegistry(FatalError):
    """An event refers to a schema registry and none is configured: the event is sound, a setting is missing."""


def header(schema_id: int) -> bytes:
    """Return the header that precedes the Avro binary."""
    return MAGIC + schema_id.to_bytes(4, "big")


def is_framed(data: bytes) -> bool:
    """Return whether ``data`` begins as the wire format does."""
    return data[:1] == MAGIC and len(data) >= HEADER_SIZE


def schema_id(data: bytes) -> int:
    """Return the id in the header of framed ``data``."""
    return int.from_bytes(data[1:HEADER_SIZE], "big")


def no_registry(identifier: int) -> NoReturn:
    """Refuse: the decoder of every id while no registry is configured."""
    raise NoRegistry(
        f"an event is in the Confluent wire format (schema id {identifier}), and no schema registry is configured. "
        "Set RUNTIDE_SCHEMA_REGISTRY_URL to the registry that its writer uses"
    )
