"""What every store can hold: checked once, here, so that all projections refuse the same events.

Names and values are checked against MLflow's rules where they come in (``runtide_schemas.limits``). A producer that
goes around those entrances can still send what no store of ours could keep, or what would fall apart into another
entity; such an event is refused as a whole, and parked by whoever reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from runtide_schemas import topics
from runtide_schemas.envelope import Envelope
from runtide_schemas.errors import InvalidRequest, PoisonEvent
from runtide_schemas.limits import check_run_id
from runtide_schemas.registry import EVENT_TYPES

MAX_IDENTIFIER_BYTES = 512
MAX_MAP_KEY_BYTES = 1_024
MAX_PATH_BYTES = 2_000
_RUN_TOPICS = (topics.RUNS, topics.METRICS)
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


def check_event(topic: str, envelope: Envelope, body: Any) -> None:
    """Check that an event of ``topic`` is what its envelope says and that every store can hold it.

    Raises:
        PoisonEvent: it is not; the message names the field and what is wrong with it.
    """
    _check_routing(topic, envelope, body)
    for name in ("id", "writer", "subject"):
        _check_text(getattr(envelope, name), f"envelope.{name}", MAX_MAP_KEY_BYTES)
    for name in ("actor", "cause", "source"):
        _check_text(getattr(envelope, name), f"envelope.{name}")
    _check_record(body, type(body).__name__)


def _check_routing(topic: str, envelope: Envelope, body: Any) -> None:
    name = type(body).__name__
    if envelope.type != name:
        raise PoisonEvent(f"the envelope says {envelope.type[:80]!r}, the body is {name}")
    if EVENT_TYPES[name].topic != topic:
        raise PoisonEvent(f"{name} belongs into {EVENT_TYPES[name].topic}, not {topic}")
    if topic in _RUN_TOPICS:
        _check_run(envelope, body.run_id)


def _check_run(envelope: Envelope, run_id: str) -> None:
    try:
        check_run_id(run_id)
    except InvalidRequest as error:
        raise PoisonEvent(str(error)) from error
    if envelope.subject != run_id:
        raise PoisonEvent(f"the envelope is about {envelope.subject[:80]!r}, the body about run {run_id!r}")


def _check_record(record: Any, where: str) -> None:
    cls: Any = type(record)
    for name in _field_names(cls):
        value = getattr(record, name)
        if check := _CHECKS.get(type(value)):
            check(value, f"{where}.{name}", _LONGEST.get(name))
        elif is_dataclass(value):
            _check_record(value, f"{where}.{name}")


def _check_text(text: str, where: str, longest: int | None = None) -> None:
    if "\x00" in text:
        raise PoisonEvent(f"{where} contains a NUL character at position {text.index(chr(0))}")
    if longest is not None and 4 * len(text) > longest and len(text.encode()) > longest:
        raise PoisonEvent(f"{where} has {len(text.encode())} bytes; the limit is {longest}")


def _check_items(items: tuple[Any, ...], where: str, longest: int | None) -> None:
    for item in items:
        if isinstance(item, str):
            _check_text(item, where, longest or MAX_MAP_KEY_BYTES)
        elif is_dataclass(item):
            _check_record(item, where)


def _check_mapping(mapping: Mapping[str, Any], where: str, longest: int | None) -> None:
    for key, value in mapping.items():
        _check_text(key, f"a key of {where}", longest or MAX_MAP_KEY_BYTES)
        if isinstance(value, str):
            _check_text(value, f"{where}[{key[:80]!r}]")


_CHECKS: dict[type, Callable[[Any, str, int | None], None]] = {
    str: _check_text,
    tuple: _check_items,
    dict: _check_mapping,
}


@cache
def _field_names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))
