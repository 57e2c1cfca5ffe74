"""Requests and responses of every served version, through the types that ``kio`` generates from Kafka's definitions.

A handler knows one version only, the newest served. Older requests are lifted to it (a field that did not exist yet
takes its default from Kafka's definition); answers are written with the older version's own writer, whose fields are a
subset by name. Where Kafka changed the shape itself, the API's file says how it copes. Tagged structures must be of the
version that is written (their default is recognised by type), so such versions are served as the newest only.
"""

import dataclasses
import datetime
import types
from collections.abc import Callable
from typing import Any, Final, Protocol, cast, get_args

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer
from kio.serial.errors import SerialError
from kio.static.primitive import i32Timedelta

from runtide_deploy.broker.errors import MalformedRequest
from runtide_deploy.broker.wire.entity_types import entity_type, is_array
from runtide_deploy.broker.wire.tagged_fields import without_unknown_tags

Message = Any
"""A request or response of kio, whose type depends on the API and version at run time."""

NO_THROTTLE: Final = i32Timedelta.parse(datetime.timedelta(0))
"""This broker has no quotas."""


class RequestHeader(Protocol):
    """What the headers of every version have."""

    @property
    def correlation_id(self) -> int:
        """The number that the answer must carry."""
        ...

    @property
    def client_id(self) -> str | None:
        """What the client calls itself."""
        ...


class ChunkWriter:
    """Collects what kio's writers write, without copying the records of a Fetch."""

    __slots__ = ("chunks", "size")

    def __init__(self) -> None:
        self.chunks: list[bytes | memoryview] = []
        self.size = 0

    def write(self, chunk: bytes | memoryview) -> int:
        """Take a chunk in."""
        self.chunks.append(chunk)
        self.size += len(chunk)
        return len(chunk)


class Codec:
    """Reads requests and writes responses of one version of one API."""

    def __init__(
        self, key: int, version: int, newest: int, own_lift: Callable[[Message], Message | None] | None = None
    ) -> None:
        request, response = load_request_schema(key, version), load_response_schema(key, version)
        self._read_header = entity_reader(request.__header_schema__)
        self._read_request = entity_reader(request)
        self._request_type = request
        self._own_lift = own_lift
        self._lift = None if version == newest else lifter(request, load_request_schema(key, newest))
        self._write_response = entity_writer(response)
        self._flexible_header = response.__header_schema__.__flexible__

    def decode(self, frame: memoryview) -> tuple[RequestHeader, Message]:
        """Return header and request of a frame (without its length).

        Raises:
            MalformedRequest: the bytes are no such request. Bytes left over are no error, as in Apache Kafka:
                librdkafka 2.16 sends three too many when it asks for the metadata of all topics.
        """
        try:
            header, request = self._read(frame)
        except (SerialError, ValueError, OverflowError, TypeError, LookupError) as error:
            raise MalformedRequest(f"cannot be decoded: {type(error).__name__}: {error}") from error
        return cast("RequestHeader", header), self._lifted(request)

    def _read(self, frame: memoryview) -> tuple[object, Message]:
        try:
            return self._read_once(frame)
        except KeyError:  # kio's word for a tagged field that its types do not have
            if not self._request_type.__flexible__:
                raise
            return self._read_once(memoryview(without_unknown_tags(frame, self._request_type)))

    def _read_once(self, frame: memoryview) -> tuple[object, Message]:
        header, header_size = self._read_header(frame, 0)
        request, _ = self._read_request(frame, header_size)
        return header, request

    def _lifted(self, request: Message) -> Message:
        if self._lift is None:
            return request
        own = self._own_lift(request) if self._own_lift is not None else None
        return self._lift(request) if own is None else own

    def encode(self, correlation_id: int, response: Message) -> list[bytes | memoryview]:
        """Return the chunks of a response frame, its length first."""
        writer = ChunkWriter()
        self._write_response(cast("Any", writer), response)
        head = correlation_id.to_bytes(4, "big", signed=True) + (b"\0" if self._flexible_header else b"")
        size = (len(head) + writer.size).to_bytes(4, "big")
        return join_small([size + head, *writer.chunks])


def join_small(chunks: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Join neighbouring small chunks, so that a socket gets few buffers and large ones stay uncopied."""
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for chunk in chunks:
        if len(chunk) < _SMALL_CHUNK:
            small.append(chunk)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(chunk)
    if small:
        joined.append(b"".join(small))
    return joined


_SMALL_CHUNK: Final = 16 * 1024


def lifter(older: type[Any], newest: type[Any]) -> Callable[[Message], Message]:
    """Return the function that turns an entity of an older version into the newest one."""
    present = {field.name for field in dataclasses.fields(older)}
    defaults: dict[str, object] = {}
    nested: dict[str, tuple[Callable[[Message], Message], bool]] = {}
    copied: list[str] = []
    for field in dataclasses.fields(newest):
        if field.name not in present:
            defaults[field.name] = _default(field)
        elif (newest_inner := entity_type(field.type)) is not None:
            older_field = next(f for f in dataclasses.fields(older) if f.name == field.name)
            older_inner = entity_type(older_field.type)
            if older_inner is None:
                raise TypeError(f"{older.__name__}.{field.name} changed its shape")
            nested[field.name] = (lifter(older_inner, newest_inner), is_array(field.type))
        else:
            copied.append(field.name)

    def lift(entity: Message) -> Message:
        values = dict(defaults)
        for name in copied:
            values[name] = getattr(entity, name)
        for name, (lift_inner, several) in nested.items():
            value = getattr(entity, name)
            if value is not None:
                value = tuple(map(lift_inner, value)) if several else lift_inner(value)
            values[name] = value
        return newest(**values)

    return lift


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if is_array(field.type):
        return ()
    if types.NoneType in get_args(field.type):
        return None
    return _IMPLICIT_DEFAULTS[field.metadata["kafka_type"]]


_IMPLICIT_DEFAULTS: Final[dict[str, object]] = {
    "bool": False,
    "int8": 0,
    "int16": 0,
    "int32": 0,
    "int64": 0,
    "string": "",
    "bytes": b"",
    "timedelta_i32": NO_THROTTLE,
}
"""What Kafka's message definitions say of a field without a default: zero of its kind."""
