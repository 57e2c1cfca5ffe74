"""Framework's configurations as params: flat, as text, within the limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from runtide_schemas.limits import MAX_PARAM_VALUE_LENGTH

_ROOM = 60


def flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, names joined by ``/``; an empty mapping is a value."""
    return dict(_leaves(values, prefix))


def param_text(value: object) -> str:
    """Return a param's value as text: functions and classes by name, what is over-long cut, with a mark that says so."""
    named = callable(value) and isinstance(getattr(value, "__name__", None), str)
    text = str(getattr(value, "__name__", value) if named else value).replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= MAX_PARAM_VALUE_LENGTH:
        return text
    return f"{text[: MAX_PARAM_VALUE_LENGTH - _ROOM]}... [cut: {len(text)} characters]"


def _leaves(values: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}/")
        else:
            yield name, value
