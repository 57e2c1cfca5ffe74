"""Where an event goes: its topic, its record key and its subject."""

from typing import Any

from runtide_schemas import topics
from runtide_schemas.registry import EVENT_TYPES

_CATALOGUE_SUBJECTS = ("webhook_id", "endpoint", "name", "experiment_id")
_SUBJECTS: dict[str, tuple[str, ...]] = {
    topics.RUNS: ("run_id",),
    topics.METRICS: ("run_id",),
    topics.LIVENESS: ("run_id",),
    topics.REQUESTS: _CATALOGUE_SUBJECTS,
    topics.CATALOG: _CATALOGUE_SUBJECTS,
    topics.DEPLOYMENTS: ("endpoint",),
    topics.QUARANTINE: ("entity",),
}


def topic_of(body: object) -> str:
    """Return the topic an event is published to."""
    return EVENT_TYPES[type(body).__name__].topic


def subject_of(body: Any) -> str:
    """Return what an event is about: run, webhook, endpoint, registered model, experiment, or the type of a refused request."""
    for attribute in _SUBJECTS[topic_of(body)]:
        if hasattr(body, attribute):
            return str(getattr(body, attribute))
    return type(body).__name__


def key_of(body: Any, writer: str) -> bytes | None:
    """Return the record key: what has to stay in one order shares a key."""
    topic = topic_of(body)
    if topic == topics.METRICS:
        return f"{body.run_id}{writer}".encode()
    return None if topic == topics.REQUESTS else subject_of(body).encode()
