"""May a reader with one schema read what a writer wrote with another? Avro's rules, and the registries' levels.

The rules are those of "Schema Resolution" in the Avro 1.12 specification. FULL_TRANSITIVE, as schema registries name it:
every version can read what every other has written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from runtide_schemas.soundness import Schema, kind_of, sound_schema

_PROMOTIONS = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}


def full_problems(new: Schema, released: Mapping[str, Schema]) -> list[str]:
    """Return why ``new`` is not FULL_TRANSITIVE-compatible with released versions; empty when it is.

    Args:
        new: the schema.
        released: earlier versions by what to call them in the answer.
    """
    problems = []
    for label, earlier in released.items():
        problems += [f"cannot read what {label} wrote: {problem}" for problem in read_problems(new, earlier)]
        problems += [f"{label} cannot read what it writes: {problem}" for problem in read_problems(earlier, new)]
    return problems


def read_problems(reader: Schema, writer: Schema) -> list[str]:
    """Return why data of ``writer`` cannot be read with ``reader``, each with its place; empty when it can.

    Raises:
        UnsoundSchema: one of them is no schema to read with.
    """
    return list(_problems(sound_schema(reader), sound_schema(writer), ""))


def _problems(reader: Schema, writer: Schema, place: str) -> Iterator[str]:
    if isinstance(writer, list):
        for branch in writer:
            yield from _problems(reader, branch, place)
    elif isinstance(reader, list):
        if all(any(True for _ in _problems(branch, writer, place)) for branch in reader):
            yield f"{place or 'the schema'}: no branch of the reader's union reads {_named(writer)}"
    elif kind_of(reader) != kind_of(writer):
        if kind_of(reader) not in _PROMOTIONS.get(kind_of(writer), ()):
            yield f"{place or 'the schema'}: {_named(writer)} cannot be read as {_named(reader)}"
    elif (check := _CHECKS.get(kind_of(reader))) is not None:
        yield from check(reader, writer, place)


def _record(reader: Any, writer: Any, place: str) -> Iterator[str]:
    yield from _name(reader, writer, place)
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        names = [name for name in (field["name"], *field.get("aliases", ())) if name in written]
        at = f"{place}.{field['name']}"
        if names:
            yield from _problems(field["type"], written[names[0]]["type"], at)
        elif "default" not in field:
            yield f"{at}: the reader wants it, the writer has no such field, and it has no default"


def _enum(reader: Any, writer: Any, place: str) -> Iterator[str]:
    yield from _name(reader, writer, place)
    unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if unknown and "default" not in reader:
        yield f"{place}: the reader has no symbol {', '.join(unknown)} and no default for unknown ones"


def _fixed(reader: Any, writer: Any, place: str) -> Iterator[str]:
    yield from _name(reader, writer, place)
    if reader["size"] != writer["size"]:
        yield f"{place}: {writer['size']} bytes cannot be read as {reader['size']}"


def _array(reader: Any, writer: Any, place: str) -> Iterator[str]:
    yield from _problems(reader["items"], writer["items"], f"{place}[]")


def _map(reader: Any, writer: Any, place: str) -> Iterator[str]:
    yield from _problems(reader["values"], writer["values"], f"{place}{{}}")


_CHECKS = {"record": _record, "enum": _enum, "fixed": _fixed, "array": _array, "map": _map}


def _name(reader: Any, writer: Any, place: str) -> Iterator[str]:
    namespace = reader["name"].rpartition(".")[0]
    aliases = [
        alias if "." in alias or not namespace else f"{namespace}.{alias}" for alias in reader.get("aliases", ())
    ]
    if writer["name"] not in (reader["name"], *aliases):
        yield f"{place or 'the schema'}: {writer['name']} cannot be read as {reader['name']}"


def _named(schema: Schema) -> str:
    return str(schema["name"]) if isinstance(schema, dict) and "name" in schema else kind_of(schema)
