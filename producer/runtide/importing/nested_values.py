"""JSON-like values with names in names, as flat texts and numbers: ``{"a": {"b": 1}}`` is ``a.b``."""

import json
from collections.abc import Iterator
from typing import Any

MOST_DEPTH = 32


def flat(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of what is no mapping; media, which are mappings with a ``_type``, stay whole."""
    if isinstance(value, dict) and value and "_type" not in value and depth < MOST_DEPTH:
        for key, part in value.items():
            yield from flat(part, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield name, value


def text_of(value: Any) -> str:
    """Return a value as ``log_param`` would keep it; lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def parsed(text: str) -> Any:
    """Return a JSON value, NaN and infinities among them; what is no JSON stays text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
