"""Settings as fields of a dataclass: declared once with default, range and description, read from options and environment.

What pydantic-settings does elsewhere in Runtide. The broker does without: its libraries are a quarter of the process's
start and of its idle memory, and a start is what a laptop's user waits for.
"""

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, Final, Literal, Self, get_args, get_origin

from runtide_deploy.broker.errors import InvalidSettings

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def setting(*, description: str, default: Any = MISSING, ge: float | None = None, le: float | None = None) -> Any:
    """Declare one setting.

    Args:
        description: what ``--help`` says of it.
        default: what it is unless given; without one it must be given.
        ge, le: the least and the most it may be.
    """
    return dataclasses.field(default=default, metadata={"description": description, "ge": ge, "le": le})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeclaredSettings:
    """Base of a frozen dataclass whose fields are made by ``setting``; values are checked whenever one is made.

    A field is a bool, int, float, str, Path, a Literal of texts, or one of them or None.
    """

    def __post_init__(self) -> None:
        """Check every field's range or choice.

        Raises:
            InvalidSettings: names each field at fault, with its value and what it may be.
        """
        faults = [_fault(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        if any(faults):
            raise InvalidSettings("; ".join(filter(None, faults)))

    @classmethod
    def read(cls, options: Mapping[str, object], environment: Mapping[str, str], prefix: str) -> Self:
        """Return the settings: ``options`` by field name first, then the environment's ``<prefix><NAME>``, then defaults.

        Raises:
            InvalidSettings: one is missing, is not of its type, or is not what it may be.
        """
        values, faults = dict(options), []
        for field in dataclasses.fields(cls):
            variable = prefix + field.name.upper()
            if field.name in options:
                continue
            if variable in environment:
                try:
                    values[field.name] = _converted(environment[variable], field.type)
                except ValueError as error:
                    faults.append(f"{variable}: {error}")
            elif field.default is MISSING:
                faults.append(f"{field.name} is missing: give {flag(field.name)} or set {variable}")
        if faults:
            raise InvalidSettings("; ".join(faults))
        return cls(**values)


def flag(name: str) -> str:
    """Return the command line option of a field."""
    return "--" + name.replace("_", "-")


def plain_type(annotation: object) -> type:
    """Return the type that a field's text is converted to; None and the choices of a Literal are left to the check."""
    if get_origin(annotation) is types.UnionType:
        annotation = next(part for part in get_args(annotation) if part is not types.NoneType)
    return annotation if isinstance(annotation, type) else str


def choices(annotation: object) -> tuple[str, ...] | None:
    """Return the texts that a field may be, None when it is no Literal."""
    return get_args(annotation) if get_origin(annotation) is Literal else None


def _fault(field: "dataclasses.Field[Any]", value: Any) -> str:
    ge, le, allowed = field.metadata.get("ge"), field.metadata.get("le"), choices(field.type)
    # Written so that NaN, which compares false with everything, is out of any range.
    if ge is not None and not value >= ge:
        return f"{field.name} is {value}, it must be at least {ge}"
    if le is not None and not value <= le:
        return f"{field.name} is {value}, it must be at most {le}"
    if allowed is not None and value not in allowed:
        return f"{field.name} is {value!r}, it must be one of {', '.join(map(repr, allowed))}"
    return ""


def _converted(text: str, annotation: object) -> object:
    kind = plain_type(annotation)
    if kind is bool:
        return _as_bool(text)
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None


def _as_bool(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")
