"""A look through Avro bytes for what fastavro takes as it comes.

It reads a negative index of a union or an enum from the end, as Python does: -1 is the last branch, without an error. And
it does not notice that the bytes end within a field that resolution passes over. So bodies of other versions than the
present one are looked through first, and those of the few types of ours that have unions, none of them frequent.
"""

from collections.abc import Callable
from typing import Any

from runtide_schemas.columns import Cursor
from runtide_schemas.errors import UndecodableEvent
from runtide_schemas.soundness import Schema, children, kind_of

_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


def has_indexes(schema: Schema) -> bool:
    """Return whether a plain tree contains a union or an enum."""
    return kind_of(schema) in ("union", "enum") or any(has_indexes(part) for _, part in children(schema))


def check_bytes(schema: Schema, data: bytes) -> None:
    """Check that ``data``, written with ``schema`` (a plain tree), is whole and that every index in it is in range.

    Raises:
        UndecodableEvent: one is out of range, or the bytes end early.
    """
    _skip(schema, Cursor(data))


def _skip(schema: Schema, cursor: Cursor) -> None:
    kind = kind_of(schema)
    if kind in _SIZES:
        cursor.take(_SIZES[kind])
    else:
        _SKIPS[kind](schema, cursor)


def _skip_text(_: Schema, cursor: Cursor) -> None:
    cursor.take(cursor.long())


def _skip_number(_: Schema, cursor: Cursor) -> None:
    cursor.long()


def _skip_record(schema: Schema, cursor: Cursor) -> None:
    for field in schema["fields"]:
        _skip(field["type"], cursor)


def _skip_array(schema: Schema, cursor: Cursor) -> None:
    items = schema["items"]
    if kind_of(items) in ("int", "long"):
        cursor.longs()  # columns of points: NumPy is faster than a loop here
        return
    size, read = _SIZES.get(kind_of(items)), 0
    while count := cursor.block(read):
        if size is not None:
            cursor.take(size * count)
        else:
            for _ in range(count):
                _skip(items, cursor)
        read += count


def _skip_map(schema: Schema, cursor: Cursor) -> None:
    read = 0
    while count := cursor.block(read):
        for _ in range(count):
            cursor.take(cursor.long())
            _skip(schema["values"], cursor)
        read += count


def _skip_union(schema: Schema, cursor: Cursor) -> None:
    _skip(schema[_index(cursor, len(schema), "branch of a union")], cursor)


def _skip_enum(schema: Schema, cursor: Cursor) -> None:
    _index(cursor, len(schema["symbols"]), f"symbol of {schema['name']}")


def _skip_fixed(schema: Schema, cursor: Cursor) -> None:
    cursor.take(schema["size"])


def _index(cursor: Cursor, count: int, what: str) -> int:
    index = cursor.long()
    if not 0 <= index < count:
        raise UndecodableEvent(f"{what}: index {index} is not one of 0 to {count - 1}")
    return index


_SKIPS: dict[str, Callable[[Any, Cursor], None]] = {
    "string": _skip_text,
    "bytes": _skip_text,
    "int": _skip_number,
    "long": _skip_number,
    "record": _skip_record,
    "array": _skip_array,
    "map": _skip_map,
    "union": _skip_union,
    "enum": _skip_enum,
    "fixed": _skip_fixed,
}
