"""What the annotations of kio's generated classes say about a field."""

import dataclasses
import types
from typing import Any, get_args, get_origin


def is_array(annotation: Any) -> bool:
    """Return whether a field holds several values."""
    return get_origin(_strip_none(annotation)) is tuple


def entity_type(annotation: Any) -> type[Any] | None:
    """Return the class of the structure, or structures, that a field holds; None when it holds plain values."""
    inner = _strip_none(annotation)
    if get_origin(inner) is tuple:
        inner = _strip_none(get_args(inner)[0])
    return inner if isinstance(inner, type) and dataclasses.is_dataclass(inner) else None


def _strip_none(annotation: Any) -> Any:
    if get_origin(annotation) is types.UnionType:
        return next(part for part in get_args(annotation) if part is not types.NoneType)
    return annotation
