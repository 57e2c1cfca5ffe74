"""The compatibility check itself: known pairs in both directions, and Apache Avro's own checker as a second opinion."""

import json
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given, settings
from hypothesis import strategies as st

from runtide_schemas.compatibility import full_problems, read_problems
from runtide_schemas.soundness import UnsoundSchema, sound_schema


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Sample", "namespace": "org.runtide.test", "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "Kind", "symbols": list(symbols), **more}


A, B = field("a", "string"), field("b", "long", default=0)
NESTED = {"type": "record", "name": "Inner", "fields": [field("x", "int", default=0)]}

# old, new, new reads old, old reads new
PAIRS: dict[str, tuple[Any, Any, bool, bool]] = {
    "the same": (record(A), record(A), True, True),
    "field with a default added": (record(A), record(A, B), True, True),
    "field without a default added": (record(A), record(A, field("b", "long")), False, True),
    "field with a default removed": (record(A, B), record(A), True, True),
    "field without a default removed": (record(A, field("b", "long")), record(A), True, False),
    "order changed": (record(A, B), record(B, A), True, True),
    "renamed with an alias and a default": (
        record(A, B),
        record(A, field("c", "long", default=0, aliases=["b"])),
        True,
        True,
    ),
    "renamed with an alias only": (record(A), record(field("c", "string", aliases=["a"])), True, False),
    "renamed without a word": (record(A), record(field("c", "string")), False, False),
    "int widened to long": (record(field("a", "int")), record(field("a", "long")), True, False),
    "long narrowed to int": (record(field("a", "long")), record(field("a", "int")), False, True),
    "long to double": (record(field("a", "long")), record(field("a", "double")), True, False),
    "string to bytes": (record(field("a", "string")), record(field("a", "bytes")), True, True),
    "string to long": (record(A), record(field("a", "long")), False, False),
    "logical type dropped": (
        record(field("a", {"type": "long", "logicalType": "timestamp-millis"})),
        record(field("a", "long")),
        True,
        True,
    ),
    "made optional": (record(A), record(field("a", ["null", "string"])), True, False),
    "branch added to a union": (
        record(field("a", ["null", "string"])),
        record(field("a", ["null", "string", "long"])),
        True,
        False,
    ),
    "symbol added, readers have a default": (
        record(field("a", enum("X", "Y", default="X"))),
        record(field("a", enum("X", "Y", "Z", default="X"))),
        True,
        True,
    ),
    "symbol added": (record(field("a", enum("X"))), record(field("a", enum("X", "Z"))), True, False),
    "items changed": (
        record(field("a", {"type": "array", "items": "int"})),
        record(field("a", {"type": "array", "items": "string"})),
        False,
        False,
    ),
    "values changed": (
        record(field("a", {"type": "map", "values": "int"})),
        record(field("a", {"type": "map", "values": "long"})),
        True,
        False,
    ),
    "field with a default added deep inside": (
        record(field("a", {"type": "array", "items": {**NESTED, "fields": []} | {"fields": [field("y", "int")]}})),
        record(
            field(
                "a", {"type": "array", "items": {**NESTED, "fields": [field("y", "int"), field("x", "int", default=0)]}}
            )
        ),
        True,
        True,
    ),
    "record renamed": (record(A), record(A, name="Other"), False, False),
    "record renamed with an alias": (record(A), record(A, name="Other", aliases=["Sample"]), True, False),
    "moved to another namespace": (record(A), record(A, namespace="org.other"), False, False),
    "fixed of another size": (
        record(field("a", {"type": "fixed", "name": "F", "size": 4})),
        record(field("a", {"type": "fixed", "name": "F", "size": 5})),
        False,
        False,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_known_pairs_in_both_directions(name: str) -> None:
    old, new, forth, back = PAIRS[name]
    assert (read_problems(new, old) == []) is forth
    assert (read_problems(old, new) == []) is back
    assert (full_problems(new, {"version 1": old}) == []) is (forth and back)


def test_the_answer_names_direction_place_and_cause() -> None:
    assert full_problems(record(A, field("b", "long")), {"version 1": record(A), "version 2": record(A, B)}) == [
        "cannot read what version 1 wrote: .b: the reader wants it, the writer has no such field, and it has no default"
    ]
    assert read_problems(record(field("a", {"type": "map", "values": "long"})), PAIRS["items changed"][0]) == [
        ".a: array cannot be read as map"
    ]


RECURSIVE = record(field("next", ["null", "Sample"], default=None))
ZERO_SIZES: list[Any] = [
    "null",
    {"type": "record", "name": "Empty", "fields": []},
    {"type": "record", "name": "Outer", "fields": [field("n", "null")]},
    {"type": "fixed", "name": "None", "size": 0},
]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (RECURSIVE, "recursive"),
        (record(field("a", {"type": "array", "items": "Sample"})), "recursive"),
        *((record(field("a", {"type": "array", "items": items})), "take no bytes") for items in ZERO_SIZES),
        (record(field("a", "Elsewhere")), "stands alone"),
        (record(field("a", "string", default=None)), "Default value <None>"),
        (record(field("a", ["null", "string"], default="")), "which is no null"),
        ({"type": "array"}, "no valid Avro schema"),
        (5, "no valid Avro schema"),
    ],
)
def test_what_must_not_be_read_with_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(UnsoundSchema, match=why):
        sound_schema(schema)


NAMES = st.sampled_from(["a", "b", "c"])
PLAIN = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
DEFAULTS = {"boolean": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0, "bytes": "", "string": "", "null": None}


@st.composite
def schemas(draw: st.DrawFn) -> Any:
    not_null = PLAIN.filter(lambda kind: kind != "null")
    kinds: list[st.SearchStrategy[Any]] = [
        PLAIN,
        st.builds(lambda values: {"type": "map", "values": values}, PLAIN),
        st.builds(lambda items: {"type": "array", "items": items}, not_null),
        st.lists(PLAIN, min_size=1, max_size=3, unique=True),
    ]
    symbols = st.lists(st.sampled_from(["X", "Y", "Z"]), min_size=1, max_size=3, unique=True)
    fields = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        kind = draw(
            st.one_of(*kinds, st.builds(lambda chosen, of: enum(*chosen, name=of), symbols, st.just(f"E{name}")))
        )
        made = field(name, kind)
        if isinstance(kind, str) and draw(st.booleans()):
            made["default"] = DEFAULTS[kind]
        fields.append(made)
    return record(*fields)


@settings(max_examples=400, deadline=None)
@given(schemas(), schemas())
@pytest.mark.gate
def test_apache_avros_checker_says_the_same(reader: Any, writer: Any) -> None:
    checker: Any = ReaderWriterCompatibilityChecker  # it has no types
    answer = checker().get_compatibility(avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer)))
    expected = answer.compatibility is SchemaCompatibilityType.compatible
    assert (read_problems(reader, writer) == []) is expected, answer.messages
