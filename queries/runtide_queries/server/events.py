"""An event of the log as JSON."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from runtide_queries.log import LoggedEvent
from runtide_schemas.envelope import format_time
from runtide_schemas.events.metrics import MetricsLogged


def event_json(event: LoggedEvent) -> dict[str, Any]:
    """Return where an event lies, its envelope with the time as RFC 3339 text, and its body.

    Of metrics only the number of points and the keys are told; the points are a query away.
    """
    envelope = {field.name: getattr(event.envelope, field.name) for field in fields(event.envelope)}
    return {
        "origin": event.origin,
        "envelope": {**envelope, "time": format_time(event.envelope.time)},
        "body": _body(event.body),
        "problem": event.problem,
    }


def _body(body: Any) -> Mapping[str, Any]:
    if isinstance(body, MetricsLogged):
        steps = [int(body.step.min()), int(body.step.max())] if len(body) else []
        return {"run_id": body.run_id, "points": len(body), "keys": body.keys, "steps": steps}
    return {field.name: getattr(body, field.name) for field in fields(body)} if body is not None else {}
