"""Which Avro schemas we read with at all, ours and other writers' alike.

A schema that refers to itself lets a few kilobytes nest so deeply that the decoder overruns its stack, and an array of
items without size lets ten bytes ask for 2^62 of them; fastavro survives neither. Such schemas are refused as a whole.
"""

from typing import Any

import fastavro
from fastavro.schema import expand_schema

Schema = Any
"""An Avro schema as JSON: a name, a list (a union) or a dict."""

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class UnsoundSchema(ValueError):
    """No valid Avro schema, or one that must not be read with; the message says which part and why."""


def sound_schema(schema: Schema) -> Schema:
    """Return a schema as a plain tree: names in full and in place of each its definition, without logical types.

    The encoding is the same. A field's default is checked against its type.

    Raises:
        UnsoundSchema: it is no valid schema, refers to itself or to types that it does not define, or has array items
            that take no bytes.
    """
    try:
        tree = expand_schema(without_logical_types(schema))
        _check(tree, "")
    except UnsoundSchema:
        raise
    except Exception as error:  # fastavro raises many kinds on what is no schema; all mean the same
        raise UnsoundSchema(f"no valid Avro schema that stands alone: {type(error).__name__}: {error}") from error
    return tree


def without_logical_types(schema: Schema) -> Schema:
    """Return the schema with the same encoding in which times are plain numbers, as they are with us."""
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        plain = {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
        return plain["type"] if set(plain) == {"type"} else plain
    return schema


def children(schema: Schema) -> list[tuple[str, Schema]]:
    """Return the parts of a plain tree's node, each with its place as text."""
    if isinstance(schema, list):
        return [(f"[{place}]", branch) for place, branch in enumerate(schema)]
    if not isinstance(schema, dict):
        return []
    fields = [(f".{field['name']}", field["type"]) for field in schema.get("fields", ())]
    return [*fields, *((f".{part}", schema[part]) for part in ("items", "values") if part in schema)]


def kind_of(schema: Schema) -> str:
    """Return what a plain tree's node is: ``union``, ``record``, ``array``, … or a primitive type."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _check(schema: Schema, place: str) -> None:
    kind = kind_of(schema)
    if not isinstance(schema, list | dict) and kind not in PRIMITIVES:
        raise UnsoundSchema(
            f"{place or 'the schema'} refers to {kind}, which it is a part of: recursive types are refused"
        )
    if kind == "array" and _takes_no_bytes(schema["items"]):
        raise UnsoundSchema(
            f"{place or 'the schema'} is an array of items that take no bytes: a few bytes could ask for any number"
        )
    for field in schema.get("fields", ()) if kind == "record" else ():
        _check_default(field, f"{place}.{field['name']}")
    for step, part in children(schema):
        _check(part, place + step)


def _takes_no_bytes(schema: Schema) -> bool:
    kind = kind_of(schema)
    if kind == "record":
        return all(_takes_no_bytes(field["type"]) for field in schema["fields"])
    return kind == "null" or (kind == "fixed" and schema["size"] == 0)


def _check_default(field: dict[str, Any], place: str) -> None:
    if "default" not in field:
        return
    expected = field["type"][0] if isinstance(field["type"], list) else field["type"]
    value = field["default"].encode("latin-1") if kind_of(expected) in ("bytes", "fixed") else field["default"]
    if not fastavro.validate(value, expected, raise_errors=False):
        raise UnsoundSchema(f"{place} has the default {field['default']!r}, which is no {kind_of(expected)}")
