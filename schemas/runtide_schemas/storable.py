"""What every store can hold: checked here, by who states an event and by all who fold it, so that all refuse the same ones.

Names and values are checked against MLflow's rules where they come in (``limits.py``). What is refused here no store of ours
could keep; a projection parks such an event, and with it what comes after it of the same entity.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from runtide_schemas.errors import PoisonEvent

MAX_IDENTIFIER_BYTES = 512
MAX_MAP_KEY_BYTES = 1_024
MAX_PATH_BYTES = 2_000
# Fields that are part of a key in a store: PostgreSQL's indexes hold at most about 2,700 bytes.
_LONGEST = {
    "run_id": 256,
    "writer_id": MAX_IDENTIFIER_BYTES,
    "model_id": MAX_IDENTIFIER_BYTES,
    "experiment_id": MAX_IDENTIFIER_BYTES,
    "experiment_request": MAX_IDENTIFIER_BYTES,
    "deployment_id": MAX_IDENTIFIER_BYTES,
    "endpoint": MAX_IDENTIFIER_BYTES,
    "webhook_id": MAX_IDENTIFIER_BYTES,
    "request_id": MAX_IDENTIFIER_BYTES,
    "path": MAX_PATH_BYTES,
}


def check_storable(body: Any) -> None:
    """Check the body of an event.

    Raises:
        PoisonEvent: a store cannot hold it; the message names the field and what is wrong with it.
    """
    _check_record(body, type(body).__name__)


def check_storable_text(text: str, where: str, longest: int | None = None) -> None:
    """Check a text that is called ``where`` and has at most ``longest`` bytes; raises as ``check_storable``."""
    if "\x00" in text:
        raise PoisonEvent(f"{where} contains a NUL character at position {text.index(chr(0))}")
    if longest is not None and 4 * len(text) > longest and len(text.encode()) > longest:
        raise PoisonEvent(f"{where} has {len(text.encode())} bytes; the limit is {longest}")


def _check_record(record: Any, where: str) -> None:
    cls: Any = type(record)
    for name in _field_names(cls):
        value = getattr(record, name)
        if check := _CHECKS.get(type(value)):
            check(value, f"{where}.{name}", _LONGEST.get(name))
        elif is_dataclass(value):
            _check_record(value, f"{where}.{name}")


def _check_items(items: tuple[Any, ...], where: str, longest: int | None) -> None:
    for item in items:
        if isinstance(item, str):
            check_storable_text(item, where, longest or MAX_MAP_KEY_BYTES)
        elif is_dataclass(item):
            _check_record(item, where)


def _check_mapping(mapping: Mapping[str, Any], where: str, longest: int | None) -> None:
    for key, value in mapping.items():
        check_storable_text(key, f"a key of {where}", longest or MAX_MAP_KEY_BYTES)
        if isinstance(value, str):
            check_storable_text(value, f"{where}[{key[:80]!r}]")


_CHECKS: dict[type, Callable[[Any, str, int | None], None]] = {
    str: check_storable_text,
    tuple: _check_items,
    dict: _check_mapping,
}


@cache
def _field_names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))
