"""Which events are folded: checked once, here, so that all projections refuse the same ones.

Names and values are checked against MLflow's rules where they come in (``runtide_schemas.limits``). A producer that
goes around those entrances can still send what no store of ours could keep (``runtide_schemas.storable``), or what would
fall apart into another entity; such an event is refused as a whole, and parked by whoever reads it.
"""

from typing import Any

from runtide_schemas import topics
from runtide_schemas.envelope import Envelope
from runtide_schemas.errors import InvalidRequest, PoisonEvent
from runtide_schemas.limits import check_run_id
from runtide_schemas.registry import EVENT_TYPES
from runtide_schemas.storable import MAX_MAP_KEY_BYTES, check_storable, check_storable_text

_RUN_TOPICS = (topics.RUNS, topics.METRICS)


def check_event(topic: str, envelope: Envelope, body: Any) -> None:
    """Check that an event of ``topic`` is what its envelope says and that every store can hold it.

    Raises:
        PoisonEvent: it is not; the message names the field and what is wrong with it.
    """
    _check_routing(topic, envelope, body)
    for name in ("id", "writer", "subject"):
        check_storable_text(getattr(envelope, name), f"envelope.{name}", MAX_MAP_KEY_BYTES)
    for name in ("actor", "cause", "source"):
        check_storable_text(getattr(envelope, name), f"envelope.{name}")
    check_storable(body)


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
