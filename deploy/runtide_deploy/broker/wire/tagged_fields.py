"""Requests of clients newer than us: tagged fields that we do not know are skipped (KIP-482), which kio's reader refuses.

Only a request that kio refused for that reason comes here, so the usual path costs nothing.
"""

import dataclasses
from typing import Any, Final

from runtide_deploy.broker.errors import MalformedRequest
from runtide_deploy.broker.wire.entity_types import entity_type, is_array

_FIXED_SIZES: Final = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "timedelta_i32": 4,
    "timedelta_i64": 8,
    "datetime_i64": 8,
    "error_code": 2,
    "uuid": 16,
}
_COMPACT: Final = {"string", "bytes", "records"}
_HEADER_BEFORE_CLIENT_ID: Final = 8
"""API key, version, correlation id; the client id after them has the old format (KIP-482), here as everywhere."""


def without_unknown_tags(frame: memoryview, request_type: type[Any]) -> bytes:
    """Return a flexible request, its header first, without the tagged fields that its type does not have.

    Raises:
        MalformedRequest: the bytes end before the request does.
    """
    copier = _Copier(frame)
    copier.copy(_HEADER_BEFORE_CLIENT_ID)
    copier.copy(max(0, int.from_bytes(copier.copy(2), "big", signed=True)))
    copier.tags(frozenset())
    copier.entity(request_type)
    return bytes(copier.kept)


class _Copier:
    """Walks a request by its type and keeps what the type has."""

    def __init__(self, source: memoryview) -> None:
        self._source = source
        self._position = 0
        self.kept = bytearray()

    def copy(self, size: int) -> memoryview:
        """Keep the next bytes and return them."""
        taken = self._take(size)
        self.kept += taken
        return taken

    def entity(self, kind: type[Any]) -> None:
        """Keep an entity of a flexible version but for its unknown tagged fields."""
        known = set()
        for field in dataclasses.fields(kind):
            if "tag" in field.metadata:
                known.add(field.metadata["tag"])
            elif is_array(field.type):
                for _ in range(self._copy_unsigned() - 1):
                    self._element(field)
            else:
                self._element(field)
        self.tags(frozenset(known))

    def _element(self, field: "dataclasses.Field[Any]") -> None:
        inner = entity_type(field.type)
        kafka_type = str(field.metadata.get("kafka_type"))
        if inner is not None:
            self.entity(inner)
        elif kafka_type in _COMPACT:
            self.copy(max(0, self._copy_unsigned() - 1))
        else:
            self.copy(_FIXED_SIZES[kafka_type])

    def tags(self, known: frozenset[int]) -> None:
        """Keep the known ones of a structure's tagged fields."""
        kept = []
        for _ in range(self._unsigned()):
            tag, size = self._unsigned(), self._unsigned()
            data = self._take(size)
            if tag in known:
                kept.append(_as_unsigned(tag) + _as_unsigned(size) + bytes(data))
        self.kept += _as_unsigned(len(kept)) + b"".join(kept)

    def _copy_unsigned(self) -> int:
        value = self._unsigned()
        self.kept += _as_unsigned(value)
        return value

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
            if shift > 28:
                raise MalformedRequest("cannot be decoded: a variable-length number is too long")

    def _take(self, size: int) -> memoryview:
        taken = self._source[self._position : self._position + size]
        if len(taken) != size:
            raise MalformedRequest("cannot be decoded: it ends too early")
        self._position += size
        return taken


def _as_unsigned(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
