"""Shapes of JSON: what a part of an answer has to look like.

| shape | fits |
|---|---|
| a type | a value of exactly this type: ``int`` is no bool, and no string of digits |
| a dict | an object with exactly these fields; `Maybe` marks those that may be left out; ``{...: ...}`` lets others be |
| a list | a list of as many items, each fitting its shape |
| `Each` | a list whose items all fit one shape |
| `Unordered` | the list, in any order |
| a compiled regular expression | a string in which it is found |
| a function | what it returns True for |
| anything else | what equals it |
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Maybe:
    """A field that may be left out."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """A list whose items all have one shape."""

    shape: Any


@dataclass(frozen=True)
class Unordered:
    """A list with these items, in any order."""

    items: tuple[Any, ...]


@dataclass(frozen=True)
class Named:
    """A check of one's own, with the words for what it wants."""

    words: str
    check: Callable[[Any], bool]

    def __repr__(self) -> str:
        """Show the words in messages."""
        return self.words


ANYTHING = Named("anything", lambda _: True)


def with_others(shape: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the shape of an object that may have more fields than these."""
    return {**shape, ...: ...}


def mismatches(shape: Any, value: Any, where: str = "answer") -> Iterator[str]:
    """Yield every place at which ``value`` does not fit ``shape``, with what is there and what should be."""
    if isinstance(shape, type):
        if type(value) is not shape:
            yield f"{where} is {value!r}, not of type {shape.__name__}"
    elif isinstance(shape, dict):
        yield from _in_object(shape, value, where)
    elif isinstance(shape, list | Each | Unordered):
        yield from _in_list(shape, value, where)
    elif isinstance(shape, re.Pattern):
        if not isinstance(value, str) or not shape.search(value):
            yield f"{where} is {value!r}, not like {shape.pattern!r}"
    elif isinstance(shape, Named):
        if not shape.check(value):
            yield f"{where} is {value!r}, not {shape.words}"
    elif type(shape) is not type(value) or shape != value:
        yield f"{where} is {value!r}, not {shape!r}"


def _in_object(shape: dict[Any, Any], value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is {value!r}, not an object"
        return
    for key, wanted in shape.items():
        if key is ...:
            continue
        if key in value:
            yield from mismatches(wanted.shape if isinstance(wanted, Maybe) else wanted, value[key], f"{where}.{key}")
        elif not isinstance(wanted, Maybe):
            yield f"{where} has no {key}"
    if ... not in shape:
        yield from (f"{where} has {key} ({value[key]!r}) besides" for key in value if key not in shape)


def _in_list(shape: "list[Any] | Each | Unordered", value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is {value!r}, not a list"
        return
    if isinstance(shape, Each):
        for place, item in enumerate(value):
            yield from mismatches(shape.shape, item, f"{where}[{place}]")
        return
    items = shape if isinstance(shape, list) else list(shape.items)
    if len(items) != len(value):
        yield f"{where} has {len(value)} items, not {len(items)}: {value!r}"
        return
    found = value if isinstance(shape, list) else _paired(items, value)
    for place, (wanted, item) in enumerate(zip(items, found, strict=True)):
        yield from mismatches(wanted, item, f"{where}[{place}]")


def _paired(items: list[Any], value: list[Any]) -> list[Any]:
    """The values in the order of the shapes that they fit; what fits none comes where room is left."""
    left, order = list(value), []
    for wanted in items:
        found = next((item for item in left if not any(mismatches(wanted, item))), None)
        order.append(found)
        if found is not None:
            left.remove(found)
    return [item if item is not None else left.pop(0) for item in order]
