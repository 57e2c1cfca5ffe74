"""What is kept of the past: the events of every entity, rows as events left them, and where each run's events lie.

All three depend on the order within partitions only, so that a rebuild comes to the same bits. Metric points are not here:
DuckDB keeps each with its place.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from runtide_consumers.postgres.rows import MERGED_VALUES, TABLES, Row, Workspace
from runtide_consumers.projection import Event, Place
from runtide_schemas import topics
from runtide_schemas.events.catalog import RequestRejected
from runtide_schemas.events.logged_models import belongs_to_run

KINDS: dict[str, str] = {
    "runs": "run",
    "writers": "run",
    "tags": "run",
    "logged_models": "run",
    "logged_model_tags": "run",
    "logged_model_params": "run",
    "run_models": "run",
    "experiments": "experiment",
    "experiment_tags": "experiment",
    "registered_models": "model",
    "registered_model_tags": "model",
    "model_versions": "model",
    "model_version_tags": "model",
    "model_aliases": "model",
    "endpoints": "endpoint",
    "deployments": "endpoint",
    "webhooks": "webhook",
}
"""The tables whose rows' past is kept, and the kind of entity that each is part of."""

_KEYS = {name: table.key for name, table in TABLES.items()} | {
    name: columns[:-1] for name, columns in MERGED_VALUES.items()
}
_RUN_TOPICS = (topics.RUNS, topics.METRICS)
HistoryRow = tuple[Any, ...]
ChangeRow = tuple[str, str, str, str, str, int, int, str | None]


def history_rows(events: Iterable[Event]) -> list[HistoryRow]:
    """Return a row of ``history`` for every event but metrics and every entity that it is about."""
    return [row for event in events if event.origin.topic != topics.METRICS for row in _history(event)]


def entities_of(event: Event) -> Iterator[tuple[str, str]]:
    """Yield kind and name of every entity that an event is about."""
    body = event.body
    if event.origin.topic in _RUN_TOPICS:
        yield "run", body.run_id
    elif isinstance(body, RequestRejected):
        yield "request", body.answer.request_id
    elif hasattr(body, "webhook_id"):
        yield "webhook", body.webhook_id
    elif hasattr(body, "endpoint"):
        yield "endpoint", body.endpoint
    elif hasattr(body, "experiment_id"):
        yield "experiment", body.experiment_id
    else:
        yield from (("model", name) for name in {body.name, getattr(body, "previous_name", body.name)})


def change_rows(work: Workspace) -> list[ChangeRow]:
    """Return the rows of ``changes`` that a folded workspace has come to."""
    return [_change(table, key, place, row) for (table, key, place), row in work.past.items()]


def differences(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]], place: Place
) -> list[ChangeRow]:
    """Return the rows of ``changes`` between two readings of the statement ``rows_of_models``."""
    old, new = (
        {(row["table_name"], row["entity"], row["key"]): row["row"] for row in rows} for rows in (before, after)
    )
    gone = [(*place_of, None) for place_of in old if place_of not in new]
    changed = [(*place_of, row) for place_of, row in new.items() if old.get(place_of) != row]
    return [(KINDS[table], entity, table, key, *place, row) for table, entity, key, row in [*gone, *changed]]


def extents(events: Iterable[Event]) -> list[tuple[str, str, int, int, int]]:
    """Return the rows of ``run_extents`` for these events: run, topic, partition, least and greatest offset."""
    found: dict[tuple[str, str, int], tuple[int, int]] = {}
    for event in events:
        origin = event.origin
        if origin.topic in _RUN_TOPICS and belongs_to_run(event.body):
            key = (event.body.run_id, origin.topic, origin.partition)
            first, last = found.get(key, (origin.offset, origin.offset))
            found[key] = (min(first, origin.offset), max(last, origin.offset))
    return [(*key, *span) for key, span in found.items()]


def _history(event: Event) -> Iterator[HistoryRow]:
    origin, envelope = event.origin, event.envelope
    body = json.dumps(event.body, default=_plain, ensure_ascii=False)
    for kind, entity in entities_of(event):
        yield (
            *(kind, entity, *origin.place, origin.timestamp_ms, envelope.time, envelope.id, envelope.type),
            *(envelope.actor, envelope.cause, envelope.source, envelope.writer, envelope.seq, body),
        )


def _change(table: str, key: tuple[Any, ...], place: Place, row: Row | None) -> ChangeRow:
    entity = key[0]
    if table == "deployments":
        entity, own = (row or {})["endpoint"], key
    else:
        own = key[1:]
    return KINDS[table], entity, table, "/".join(map(str, own)), *place, _row_json(table, row)


def _row_json(table: str, row: Row | None) -> str | None:
    if row is None:
        return None
    entity = "endpoint" if table == "deployments" else _KEYS[table][0]
    told = {column: value for column, value in row.items() if column != entity}
    if "flavors" in told:
        told["flavors"] = json.loads(told["flavors"])
    return json.dumps(told, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _finite(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form in an event's body")


def _finite(value: Any) -> Any:
    """Return a number that JSON lacks as the text that PostgreSQL reads as that number."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
